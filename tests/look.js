// What is wrong with what is on the screen now: the first few offenders, in words. Run in the page by test_pages.py.
() => {
  const article = document.querySelector("article") ?? document.body, wrong = [];
  const name = e => e.outerHTML.slice(0, 160);
  const shown = e => e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) && e.getClientRects().length > 0;
  const scrolls = e => { for (; e && e !== article; e = e.parentElement)
    if (/auto|scroll|hidden|clip/.test(getComputedStyle(e).overflowX)) return true; };

  // nothing wider than the screen, but in a box of its own that scrolls
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`page ${document.documentElement.scrollWidth} px wide`);
  for (const e of article.querySelectorAll("*"))
    if (shown(e) && e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e)) wrong.push(`wider than the screen: ${name(e)}`);

  // formulas: all typeset, none in error
  for (const e of article.querySelectorAll("mjx-merror, [data-mjx-error]"))
    wrong.push(`formula in error: ${e.closest("mjx-container").textContent}`);
  const walk = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (e.closest("pre, code, script, style, mjx-container, textarea")) continue;
    const text = walk.currentNode.data.trim();
    if (/\\[([]|\\begin|\\[a-zA-Z]{2,}|\$\$|\$[^\s$][^$]*\$/.test(text)) wrong.push(`raw TeX: ${text.slice(0, 120)}`);
  }

  // images and widgets: there
  for (const e of document.images) if (!e.complete || !e.naturalWidth) wrong.push(`image missing: ${e.src}`);
  for (const e of article.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')) {
    const view = e.parentElement.querySelector(".jupyter-widgets");
    if (!view || view.getBoundingClientRect().height < 10) wrong.push(`widget not shown: ${e.textContent.trim()}`);
  }

  // text stands out from what is behind it
  const rgb = text => { const n = text.match(/[\d.e+-]+%?/g).map(Number), unit = text.startsWith("color(") ? 255 : 1;
    return [n[0] * unit, n[1] * unit, n[2] * unit, n[3] ?? 1]; };
  const light = ([r, g, b]) => [[r, .2126], [g, .7152], [b, .0722]].reduce((sum, [v, w]) => {
    v /= 255; return sum + w * (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); }, 0);
  const behind = e => { const layers = [];
    for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); layers.push(c); if (c[3] === 1) break; }
    return layers.reverse().reduce((under, c) => [0, 1, 2].map(i => c[3] * c[i] + (1 - c[3]) * under[i]), [255, 255, 255]); };
  const texts = "p, li, td, th, h1, h2, h3, figcaption span, a.reference, summary, pre, code, .admonition-title, mjx-container, .widget-label";
  for (const e of article.querySelectorAll(texts)) {
    if (!shown(e) || !e.textContent.trim() || e.closest("script")) continue;
    const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < 4.5) wrong.push(`contrast ${contrast.toFixed(1)}: ${name(e)}`);
  }
  return wrong.slice(0, 8);
}
