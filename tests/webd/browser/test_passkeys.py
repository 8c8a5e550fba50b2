"""Passkeys in a real browser with a virtual authenticator: made on a page, enrolled by root, then nothing else decides.

The hive is one of its own: a key that is enrolled changes what a click can do, for everybody.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from tests.support.hive import RunningHive
from tests.support.hive import hive as started
from tests.webd.browser.conftest import DESK, PHONE, context, picture, sideways, watched, width
from tests.webd.support.config import commit

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.cage, pytest.mark.root]

Axe = Callable[..., list[str]]
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture(scope="module")
def keyed() -> Iterator[RunningHive]:
    """A hive in which keys come to decide."""
    with started("--runner", "demo", "--agents", "iris") as running:
        yield running


def by_name(address: str) -> str:
    """An address of a dashboard by its name: a passkey belongs to one."""
    return address.replace("127.0.0.1", "localhost")


def signed_in_at(chromium: Browser, at: RunningHive) -> Any:
    with context(chromium, by_name(at.base_url), DESK) as signing_in:
        page = signing_in.new_page()
        page.goto(by_name(at.hivectl("login")["url"]))
        expect(page.locator("#swarm")).to_be_visible()
        return signing_in.storage_state()


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, keyed: RunningHive) -> Any:
    return signed_in_at(chromium, keyed)


@pytest.fixture
def browsing(
    chromium: Browser, keyed: RunningHive, signed_in: Any, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Page]]:
    """A function: a page that is signed in, of this size."""
    with ExitStack() as opened:
        yield lambda size=DESK: opened.enter_context(
            watched(
                opened.enter_context(context(chromium, by_name(keyed.base_url), size, signed_in)), request
            )
        )


@pytest.fixture(scope="module")
def keys() -> list[dict[str, Any]]:
    """What the authenticator of an earlier test held, as a person keeps it."""
    return []


def authenticator(page: Page, held: list[dict[str, Any]]) -> tuple[CDPSession, str]:
    """Give the page's browser an authenticator, holding these keys."""
    talk = page.context.new_cdp_session(page)
    talk.send("WebAuthn.enable")
    made = talk.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})["authenticatorId"]
    for key in held:
        talk.send("WebAuthn.addCredential", {"authenticatorId": made, "credential": key})
    return talk, made


def proposed(keyed: RunningHive, icon: str) -> int:
    """A proposal that gives iris another icon; its number."""
    made = commit(
        keyed.places.state, "iris", lambda text: re.sub("icon.*\n", "", text) + f'icon = "{icon}"\n'
    )
    return int(keyed.hivectl("propose", "iris", "config", "--commit", made)["number"])


def ssh_key(keyed: RunningHive, folder: Path) -> Path:
    """A key of the real ssh-keygen, enrolled as `desktop`."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    keyed.hivectl("enrol", "desktop", "--ssh", f"{key}.pub")
    return key


def card(page: Page, number: int) -> Any:
    page.goto("/#calls")
    return page.locator(f"[data-proposal='iris/{number}']")


def record(keyed: RunningHive, number: int) -> Any:
    """The document of the tag at the end of a proposal."""
    refs = keyed.hivectl("refs", "iris")
    return next(json.loads(ref["document"]) for ref in refs if ref["name"] == f"deployed/{number}")


def test_where_no_passkey_can_be_used_the_page_says_where(
    chromium: Browser, keyed: RunningHive, request: pytest.FixtureRequest, axe: Axe
) -> None:
    with context(chromium, keyed.base_url, PHONE) as made, watched(made, request) as page:
        page.goto(keyed.hivectl("login")["url"])
        expect(page.locator("#swarm")).to_be_visible()
        page.goto("/enrol")
        expect(page.locator("#main")).to_contain_text("a passkey belongs to a name")
        named = page.locator("#main").get_by_role("link", name="http://localhost:")
        expect(named).to_have_attribute("href", re.compile(r"^http://localhost:\d+/enrol$"))
        picture(page, "enrol by address 390")
        assert axe(page) == []
        assert sideways(page) <= 0


@pytest.mark.allow_noise("RS256")  # Chromium's advice; root takes two kinds of keys, and this is none of them
def test_a_passkey_is_made_here_and_enrolled_by_root(
    browsing: Callable[..., Page], keyed: RunningHive, keys: list[dict[str, Any]], axe: Axe
) -> None:
    page = browsing()
    talk, made = authenticator(page, keys)
    page.goto("/enrol")
    expect(page.get_by_text("no key is enrolled")).to_be_visible()
    picture(page, "enrol 1440")
    page.get_by_role("button", name="make a passkey").click()
    name = page.get_by_label("what it is called")
    name.fill("My Laptop")
    expect(page.get_by_role("alert")).to_contain_text("lower-case letters")
    name.fill("laptop")
    command = page.get_by_label("command for root")
    expect(command).to_contain_text(re.compile(r"^hivectl enrol laptop --passkey [\w-]+$"))
    page.get_by_role("button", name="copy").click()
    expect(page.locator(".toast")).to_contain_text("the command is copied")
    picture(page, "enrol made 1440")
    assert axe(page) == []
    assert sideways(page) <= 0
    enrolled = keyed.hivectl(*(command.text_content() or "").split()[1:])
    expect(page.get_by_text("laptop is enrolled.")).to_be_visible()
    row = page.locator("[data-key=laptop]")
    expect(row).to_contain_text(enrolled["fingerprint"])
    expect(page.get_by_text("1 key decides")).to_be_visible()
    picture(page, "enrol done 1440")
    assert axe(page) == []
    keys += talk.send("WebAuthn.getCredentials", {"authenticatorId": made})["credentials"]
    assert len(keys) == 1


def test_an_approval_is_signed_and_checked_by_root(
    browsing: Callable[..., Page], keyed: RunningHive, keys: list[dict[str, Any]], axe: Axe
) -> None:
    number = proposed(keyed, "bee")
    ask_for_the_key(browsing(PHONE), keyed, number, axe)
    page = browsing(DESK)
    authenticator(page, keys)
    waiting = ask_for_the_key(page, keyed, number, axe)
    waiting.get_by_role("button", name=f"approve proposal {number} of iris").click()
    expect(waiting).to_have_count(0)
    page.goto(f"/agent/iris/config?tag=proposal/{number}")
    expect(page.get_by_role("heading", name=f"deployed/{number}")).to_be_visible()
    expect(page.locator(".viewer .facts")).to_contain_text("passkey laptop")
    approved = record(keyed, number)["approved"]
    (word,) = approved["words"]
    assert (word["proof"]["kind"], word["approver"]["name"]) == ("passkey", "laptop")


def ask_for_the_key(page: Page, keyed: RunningHive, number: int, axe: Axe) -> Any:
    """The card of a proposal, which asks for a passkey and shows the code that the terminal shows, too."""
    at_terminal = keyed.hivectl("show", "iris", str(number))["code"]
    waiting = card(page, number)
    proving = waiting.get_by_role("note", name="what proves an approval")
    expect(proving).to_contain_text("approving asks for your passkey")
    expect(proving).to_contain_text(f"{at_terminal[:4]} {at_terminal[4:]}")
    waiting.scroll_into_view_if_needed()
    picture(page, f"passkey card {width(page)}")
    assert axe(page, f"[data-proposal='iris/{number}']") == []
    assert sideways(page) <= 0
    return waiting


@pytest.mark.allow_noise("403")
def test_without_the_key_nothing_is_deployed(
    browsing: Callable[..., Page], keyed: RunningHive, keys: list[dict[str, Any]]
) -> None:
    """A browser whose session is good, but whose authenticator holds another key, or nobody touches."""
    number = proposed(keyed, "wasp")
    page = browsing()
    talk, made = authenticator(page, [])
    waiting = card(page, number)
    approve = waiting.get_by_role("button", name=f"approve proposal {number} of iris")
    talk.send("WebAuthn.setUserVerified", {"authenticatorId": made, "isUserVerified": False})
    approve.click()
    expect(page.locator(".toast.bad")).to_contain_text("no passkey answered")
    expect(waiting).to_be_visible()
    click = page.evaluate(
        """async (path) => {
        const shown = await (await fetch(path)).json();
        const key = Array.from(crypto.getRandomValues(new Uint8Array(22)), (n) => "abcdefgh"[n % 8]).join("");
        const answer = await fetch(path + "/approve", {method: "POST", headers: {"Content-Type": "application/json"},
          body: JSON.stringify({key, digest: shown.digest, proof: {kind: "click"}})});
        return [answer.status, (await answer.json()).problem];
      }""",
        f"/api/v1/agents/iris/proposals/{number}",
    )
    assert click == [403, "denied"]
    assert keyed.hivectl("proposals", "iris")[0]["state"] == "open"


def test_where_only_ssh_keys_decide_the_card_says_what_to_type(
    browsing: Callable[..., Page], keyed: RunningHive, keys: list[dict[str, Any]], tmp_path: Path, axe: Axe
) -> None:
    key = ssh_key(keyed, tmp_path)
    keyed.hivectl("revoke", "laptop", "--yes")
    number = proposed(keyed, "moth")
    page = browsing(PHONE)
    waiting = card(page, number)
    proving = waiting.get_by_role("note", name="what proves an approval")
    expect(proving).to_contain_text("only SSH keys are enrolled")
    expect(proving).to_contain_text(f"hivectl approve iris {number} --sign KEYFILE")
    expect(waiting.get_by_role("button", name=f"approve proposal {number} of iris")).to_be_disabled()
    waiting.scroll_into_view_if_needed()
    picture(page, "ssh card 390")
    assert axe(page, f"[data-proposal='iris/{number}']") == []
    page.goto("/enrol")
    expect(page.locator("[data-key=laptop]")).to_contain_text("revoked")
    expect(page.locator("[data-key=desktop]")).to_contain_text("ssh-ed25519")
    picture(page, "enrol 390")
    assert axe(page) == []
    assert sideways(page) <= 0
    keyed.hivectl("approve", "iris", str(number), "--yes", "--sign", str(key))
    page.goto("/#calls")
    expect(page.locator("#swarm")).to_be_visible()
    expect(page.locator(f"[data-proposal='iris/{number}']")).to_have_count(0)


@pytest.mark.allow_noise("RS256")
def test_of_two_keys_each_decides_on_what_it_was_shown(
    chromium: Browser, tmp_path: Path, request: pytest.FixtureRequest, axe: Axe
) -> None:
    with ExitStack() as opened:
        two = opened.enter_context(
            started("--runner", "demo", "--agents", "iris", settings="[approvals]\nrequired = 2\n")
        )
        session = signed_in_at(chromium, two)
        browsing = opened.enter_context(context(chromium, by_name(two.base_url), DESK, session))
        page = opened.enter_context(watched(browsing, request))
        authenticator(page, [])
        page.goto("/enrol")
        page.get_by_role("button", name="make a passkey").click()
        page.get_by_label("what it is called").fill("laptop")
        command = page.get_by_label("command for root")
        expect(command).to_contain_text("hivectl enrol laptop --passkey")
        two.hivectl(*(command.text_content() or "").split()[1:])
        key = ssh_key(two, tmp_path)
        number = proposed(two, "bee")
        waiting = card(page, number)
        approve = waiting.get_by_role("button", name=f"approve proposal {number} of iris")
        approve.click()
        expect(waiting).to_contain_text("another key must agree")
        proving = waiting.get_by_role("note", name="what proves an approval")
        expect(proving).to_contain_text("every passkey has approved it")
        expect(proving).to_contain_text(f"hivectl approve iris {number} --sign KEYFILE")
        expect(approve).to_be_disabled()
        assert two.hivectl("proposals", "iris")[0]["state"] == "open"
        picture(page, "passkey one of two 1440")
        assert axe(page, f"[data-proposal='iris/{number}']") == []
        two.hivectl("approve", "iris", str(number), "--yes", "--sign", str(key))
        expect(waiting).to_have_count(0)
        page.goto(f"/agent/iris/config?tag=proposal/{number}")
        expect(page.get_by_role("heading", name=f"deployed/{number}")).to_be_visible()
        expect(page.locator(".viewer .facts")).to_contain_text("passkey laptop and ssh desktop")
