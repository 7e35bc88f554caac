// The widget manager typesets through MathJax 2's interface; this lends it to MathJax 3.
document.addEventListener("DOMContentLoaded", () => {
  if (!window.MathJax || MathJax.Hub) return;
  MathJax.Hub = { Queue: (call) => MathJax.startup.promise.then(() => MathJax.typesetPromise([call[2]])) };
});

// An inline formula wider than its column scrolls in itself; only such a one, for scrolling boxes lose their baseline.
const markWideFormulas = () => {
  for (const formula of document.querySelectorAll('mjx-container:not([display="true"])')) {
    formula.classList.remove("wide");
    const block = formula.closest("p, li, td, th, dd, dt, figcaption, div");
    formula.classList.toggle("wide", block && formula.getBoundingClientRect().width > block.clientWidth);
  }
};
addEventListener("load", () => window.MathJax?.startup?.promise?.then(markWideFormulas));
addEventListener("resize", markWideFormulas);
