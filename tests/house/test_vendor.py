"""The dashboard's vendored modules: imports made relative, licences kept, and a real browser runs them unbundled."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from house import vendor

CHECKOUT = Path(__file__).parents[2]
PACKAGES = CHECKOUT / "node_modules"

# As strict as webd's own policy.
CONTENT_POLICY = "default-src 'none'; script-src 'self'; require-trusted-types-for 'script'"
PAGE = '<!doctype html><title>vendored</title><main></main><script type="module" src="/page.js"></script>'
SCRIPT = """
import { h, render } from "./vendor/preact.js";
import { useState } from "./vendor/hooks.js";
import { signal } from "./vendor/signals.js";
import { computed } from "./vendor/signals-core.js";
import htm from "./vendor/htm.js";

const html = htm.bind(h);
const count = signal(20);
const twice = computed(() => count.value * 2);
function Answer() {
  const [unit] = useState("bees");
  return html`<p>${twice} ${unit}</p>`;
}
render(html`<${Answer} />`, document.querySelector("main"));
count.value += 1;
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('import{h}from"preact";', 'import{h}from"./preact.js";'),
        ("import * as p from 'preact/hooks'", "import * as p from './hooks.js'"),
        ('export * from "@preact/signals-core"', 'export * from "./signals-core.js"'),
        ('import "htm";', 'import "./htm.js";'),
        ('import { a } from "./near.js";', 'import { a } from "./near.js";'),
        ('const from="preact";', 'const from="preact";'),
    ],
)
def test_bare_imports_become_relative(source: str, expected: str) -> None:
    assert vendor.with_relative_imports(source) == expected + "\n"


def test_an_import_of_anything_else_is_refused() -> None:
    with pytest.raises(SystemExit, match="left-pad"):
        vendor.with_relative_imports('import pad from "left-pad";')


def test_source_maps_are_not_asked_for() -> None:
    assert vendor.with_relative_imports("a();\n//# sourceMappingURL=a.mjs.map\n") == "a();\n"


def test_no_two_modules_share_a_file() -> None:
    assert len({vendor.file_name(module) for module in vendor.MODULES}) == len(vendor.MODULES)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a page that uses every vendored module."""
    vendor.vendor(PACKAGES, tmp_path / "vendor")
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "page.js").write_text(SCRIPT)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            self.send_header("Content-Security-Policy", CONTENT_POLICY)
            super().end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet: the browser's own errors are what the test reads."""

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))
    ) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        serving.join()


def test_every_licence_is_kept(tmp_path: Path) -> None:
    vendor.vendor(PACKAGES, tmp_path / "vendor")
    licences = (tmp_path / "vendor" / "LICENSES.txt").read_text()
    assert licences.count("Copyright") >= len(vendor.LICENSED_PACKAGES)


@pytest.mark.browser
def test_a_browser_runs_them_under_a_strict_policy(site: str) -> None:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 the fast loop need not load it

    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
            ],
        )
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        page.goto(site)
        page.wait_for_function("document.querySelector('main').textContent === '42 bees'")
        browser.close()
    assert complaints == []
