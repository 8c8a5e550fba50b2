"""A real browser on a real hive: headless Chromium through playwright, demo agents hm1nd and iris in real cages.

What a test may ask for:

    hive        the running hive (tests/support/hive.py), one for all browser tests
    base_url    its origin, http://127.0.0.1:<port>
    login_link  a function: a fresh link that signs one browser in
    ask         a function: one typed request to a daemon of the hive, as the operator
    page        a signed-in page, once as wide as a desk and once as narrow as a phone
    desk        a signed-in page, wide only, for what does not depend on the width
    stranger    a page that has not signed in, wide; signing in is rationed to five a minute
    all_read    the agents are at rest, and nothing waits for the operator, when the test begins
    puppets     a function: an agent without a cage whose harness is the test (browser/puppets.py)
    posts       what `page` or `desk` sent to webd so far, other than reading
    axe         a function: the accessibility rules that the page, or a part of it, breaks

Every page fails its test on a console error, a page error, a failed request or a violation of the content policy.
Rules that cost time to find: never `page.wait_for_function()`, which the policy stops, but `expect(locator)`; never
`bypass_csp`, which would hide what is tested; reduced motion makes pictures and axe steady.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from protocol.brokerd import Activity, CloseThread, MarkRead, ResumeAgent, Snapshot, TakeSnapshot
from protocol.names import OPERATOR
from protocol.problem import Refused
from protocol.rpc import Call
from protocol.tools import Answer
from runtime.client import Client
from tests.support.hive import RunningHive
from tests.support.hive import hive as started
from tests.webd.browser.puppets import Puppet, puppet

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ROOT = Path(__file__).parents[3]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = Path(os.environ.get("HIVE_PICTURES", ROOT / ".hive" / "pictures"))
DESK = (1440, 900)
PHONE = (390, 844)
PATIENCE_MS = 30_000
QUIET_S = 60.0
UNRATED = "[guards]\nmessages_per_minute = 6000\npair_messages_per_minute = 6000\n"
"""All tests together write more in a minute than agents may."""
QUIET_LOOK_S = 0.1

WATCH = """
window.__violations = [];
addEventListener("securitypolicyviolation", (e) =>
  window.__violations.push(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
"""
# axe cannot see through gradients and pseudo-elements laid over text, and takes what a bar that stays covers by half
# for too small; a constructed sheet is not subject to the policy.
FLAT = """() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("*,*::before,*::after{background-image:none!important}"
    + ".card::before,.who a::after,body::after{content:none!important}"
    + ".strip,.panes,.foot{position:static!important}");
  document.adoptedStyleSheets = [sheet];
}"""
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

expect.set_options(timeout=PATIENCE_MS)
R = TypeVar("R")


@pytest.fixture(scope="session")
def hive() -> Iterator[RunningHive]:
    with started("--runner", "demo", "--agents", "iris", settings=UNRATED) as running:
        yield running


@pytest.fixture(scope="session")
def base_url(hive: RunningHive) -> str:
    return hive.base_url


@pytest.fixture(scope="session")
def login_link(hive: RunningHive) -> Callable[[], str]:
    return lambda: str(hive.hivectl("login")["url"])


@pytest.fixture(scope="session")
def ask(hive: RunningHive) -> Callable[[str, Call[Any]], Any]:
    def ask(daemon: str, request: Call[R]) -> R:
        async def call() -> R:
            async with Client(hive.socket(daemon)) as client:
                return await client.call(request)

        return trio.run(call)

    return ask


@pytest.fixture
def all_read(ask: Callable[[str, Call[Any]], Any]) -> None:
    """What an earlier test has set going ends first; then everything that it left for the operator is dealt with."""
    now = quiet(ask)
    for question in now.questions:
        if question.asked_of == OPERATOR:
            with suppress(Refused):  # its asker has gone meanwhile
                ask(
                    "brokerd", Answer(question=question.id, answer="never mind", choices=question.options[:1])
                )
    for thread in now.parked:
        ask("brokerd", CloseThread(thread=thread.thread))
    unread = tuple(
        message.id
        for message in quiet(ask).wanting
        if any(receipt.recipient == OPERATOR for receipt in message.deliveries)
    )
    if unread:
        ask("brokerd", MarkRead(messages=unread))


def quiet(ask: Callable[[str, Call[Any]], Any]) -> Snapshot:
    """The hive once every agent is resumed, at rest, and has read its mail."""
    deadline = time.monotonic() + QUIET_S
    while True:
        now: Snapshot = ask("brokerd", TakeSnapshot())
        for row in now.agents:
            if row.agent.paused:
                ask("brokerd", ResumeAgent(agent=row.agent.name))
        busy = [row.agent.name for row in now.agents if row.inbox or row.agent.activity is Activity.THINKING]
        if not busy:
            return now
        assert time.monotonic() < deadline, f"still busy: {busy}"
        time.sleep(QUIET_LOOK_S)


@pytest.fixture
def puppets(hive: RunningHive, ask: Callable[[str, Call[Any]], Any]) -> Iterator[Callable[[str], Puppet]]:
    with ExitStack() as made:
        yield lambda name: made.enter_context(puppet(hive, ask, name))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def session(chromium: Browser, base_url: str, login_link: Callable[[], str]) -> Any:
    """The cookies of one browser that signed in, for all others: signing in is rationed."""
    with context(chromium, base_url, DESK) as signing_in:
        page = signing_in.new_page()
        page.goto(login_link())
        expect(page.locator("#swarm")).to_be_visible()
        return signing_in.storage_state()


@contextmanager
def context(
    chromium: Browser, base_url: str, size: tuple[int, int], session: Any = None
) -> Iterator[BrowserContext]:
    width, height = size
    made = chromium.new_context(
        base_url=base_url,
        storage_state=session,
        viewport={"width": width, "height": height},
        has_touch=size == PHONE,
        is_mobile=size == PHONE,
        reduced_motion="reduce",
        color_scheme="dark",
        locale="en-GB",
        timezone_id="Europe/Berlin",
    )
    made.set_default_timeout(PATIENCE_MS)
    made.add_init_script(WATCH)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def watched(browsing: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that fails its test on noise; a failed test leaves a picture."""
    page = browsing.new_page()
    noise: list[str] = []
    page.on("console", lambda said: noise.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: noise.append(f"page error: {error}"))
    page.on("requestfailed", lambda failed: noise.append(f"failed: {failed.url} {failed.failure}"))
    yield page
    if request.node.stash.get(FAILED, False):
        picture(page, request.node.name)
    violations = page.evaluate("window.__violations ?? []")
    allowed = request.node.get_closest_marker("allow_noise")
    left = [
        line for line in noise if not left_behind(line) and not (allowed and re.search(allowed.args[0], line))
    ]
    assert not violations, f"content policy violated: {violations}"
    assert not left, f"the console is not clean: {left}"


def left_behind(line: str) -> bool:
    """What ends because the reader leaves its page is no failure."""
    return line.startswith("failed: ") and "ERR_ABORTED" in line


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(chromium: Browser, base_url: str, session: Any, request: pytest.FixtureRequest) -> Iterator[Page]:
    with context(chromium, base_url, request.param, session) as made, watched(made, request) as page:
        yield page


@pytest.fixture
def desk(chromium: Browser, base_url: str, session: Any, request: pytest.FixtureRequest) -> Iterator[Page]:
    with context(chromium, base_url, DESK, session) as made, watched(made, request) as page:
        yield page


@pytest.fixture
def stranger(chromium: Browser, base_url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    with context(chromium, base_url, DESK) as made, watched(made, request) as page:
        yield page


@pytest.fixture
def posts(request: pytest.FixtureRequest) -> list[str]:
    """Paths of what the page sent, in order."""
    page: Page = request.getfixturevalue("desk" if "desk" in request.fixturenames else "page")
    sent: list[str] = []
    page.on("request", lambda asked: sent.append(path_of(asked.url)) if asked.method == "POST" else None)
    return sent


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


@pytest.fixture
def axe() -> Callable[..., list[str]]:
    rules = AXE.read_text(encoding="utf-8")

    def run(page: Page, within: str = "html") -> list[str]:
        page.evaluate(rules)
        page.evaluate(FLAT)
        found = page.evaluate("([part, tags]) => axe.run(part, {runOnly: tags})", [within, TAGS])
        page.evaluate("() => { document.adoptedStyleSheets = []; }")
        return [
            f"{broken['id']}: {broken['nodes'][0]['html'][:160]} ({broken['nodes'][0].get('failureSummary', '')})"
            for broken in found["violations"]
        ]

    return run


def picture(page: Page, name: str) -> None:
    """Keep what the page looks like, as an artefact."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{re.sub(r'[^a-z0-9-]+', '-', name.lower())}.png")


def width(page: Page) -> int:
    """Of the window, in pixels."""
    assert page.viewport_size is not None
    return page.viewport_size["width"]


def sideways(page: Page) -> int:
    """How far a page is too wide for its window. A phone does not scroll it but zooms out, and `innerWidth` grows."""
    return int(page.evaluate("document.documentElement.scrollWidth")) - width(page)


FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "allow_noise(regex): console lines that this test provokes on purpose")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report
