"""The rendered pages in headless Chromium, as a reader sees them: wide and narrow, light and dark, and without a network.

SHOTS=folder keeps a picture of each.
"""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import notebooks
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the rendered pages are not looked at")

FLAGS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
         "--disable-sync").split()
PAGES = [f"{name}.html" for name in notebooks.toc_files()] + ["search.html", "genindex.html"]

LOOK = Path(__file__).with_name("look.js").read_text()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site.html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def opened(browser, url, width, complaints, requests):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.on("console", lambda message: message.type == "error" and complaints.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
    page.on("request", lambda request: requests.append(request.url))
    page.on("response", lambda response: response.status >= 400 and complaints.append(f"{response.status} {response.url}"))
    page.goto(url, wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.wait_for_function("""() => [...document.querySelectorAll('article script[type="application/vnd.jupyter.widget-view+json"]')]
                              .every(e => e.parentElement.querySelector('.jupyter-widgets'))""")
    page.evaluate("() => document.fonts.ready")
    return page


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_page(browser, address, site, name, width):
    complaints, requests = [], []
    page = opened(browser, f"{address}/{name}", width, complaints, requests)
    shots = os.environ.get("SHOTS")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
        if shots:
            page.screenshot(path=Path(shots, f"{Path(name).stem}-{width}-{scheme}.png"), full_page=True)
        complaints += [f"{scheme}: {wrong}" for wrong in page.evaluate(LOOK)]
    page.evaluate("""() => { document.querySelectorAll("article details").forEach(e => e.open = true);
                             document.querySelectorAll("article button.toggle-button-hidden").forEach(e => e.click()); }""")
    assert not page.evaluate("document.querySelectorAll('article :is(.toggle-hidden, details:not([open]))').length")
    complaints += [f"with folds open: {wrong}" for wrong in page.evaluate(LOOK)]
    page.context.close()
    complaints += [f"asks another site: {url}" for url in requests if not url.startswith((address, "data:", "blob:"))]
    own = {unquote(urlsplit(url).path).lstrip("/") for url in requests if url.startswith(address)}
    weight = sum((site.html / path).stat().st_size for path in own if path.endswith(".html") or path.startswith("_images/"))
    complaints += [f"the page and its pictures weigh {weight / 1e6:.1f} MB"] if weight > 2e6 else []
    assert not complaints, "\n".join(complaints)


def test_search_finds_without_a_network(browser, address):
    complaints = []
    page = opened(browser, f"{address}/search.html?q=probabilistic", 1280, complaints, [])
    page.wait_for_selector("#search-results li a")
    page.context.close()
    assert not complaints


def test_this_looks_closely(browser):
    """The checks above can fail."""
    page = browser.new_page()
    page.set_content(r"""<article style="background: #fff"><p>Here \(x\) is raw, and $y$ too</p><p style="color: #ccc">pale</p>
                         <div style="width: 3000px">wide</div><img src="nowhere.png"></article>""")
    found = "\n".join(page.evaluate(LOOK))
    page.close()
    for what in ("raw TeX: Here", "contrast 1.6", "wider than the screen", "px wide", "image missing"):
        assert what in found, found
