"""Keys at the command line: which file is taken, what ssh-keygen signs, and the words about them."""

from pathlib import Path

import pytest

from hivectl import approvers
from hivectl.up.configuration import Web, passkey_origins
from privd.policy.proofs import check
from privd.settings import PrivdSettings
from protocol.approvals import Approver, Passkey, SshKey
from protocol.limits import PROOF_BYTES_MAX
from protocol.problem import Problem, Refused
from runtime.settings import SettingsFault, parse_settings
from tests.support.approvers import SshSigner

ROWS = (
    Approver("anna", SshKey("ssh-ed25519 AAAA"), "SHA256:one", 0),
    Approver("bert", Passkey(b"id", b"key"), "SHA256:two\x1b", 0, 1_000),
)


def test_the_public_key_is_found_beside_the_key(tmp_path: Path) -> None:
    signer = SshSigner(tmp_path)
    public = signer.path.with_suffix(".pub")
    assert approvers.public_key(public) == approvers.public_key(signer.path)
    assert approvers.public_key(public).line == public.read_text().strip()
    public.rename(tmp_path / "elsewhere")
    assert approvers.public_key(tmp_path / "elsewhere").line.startswith("ssh-ed25519 ")
    with pytest.raises(Refused, match=r"private key; name its public one"):
        approvers.public_key(signer.path)


@pytest.mark.parametrize("content", ["", "one\ntwo", "k" * (PROOF_BYTES_MAX + 1)])
def test_a_file_that_is_no_public_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.pub"
    path.write_text(content)
    with pytest.raises(Refused, match="no public key") as refused:
        approvers.public_key(path)
    assert refused.value.problem is Problem.MALFORMED


@pytest.mark.anyio
async def test_what_is_signed_here_proves_it_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = SshSigner(tmp_path, "-odd name")
    monkeypatch.chdir(tmp_path)
    proof = await approvers.signed("the document", Path("-odd name"))
    line = " ".join(signer.key.line.split()[:2])
    assert check("the document", proof, (Approver("anna", SshKey(line), "", 0),), ()) is not None


@pytest.mark.anyio
async def test_a_signer_that_signs_nothing_or_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refused, match="has signed nothing"):
        await approvers.signed("the document", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="install openssh-client"):
        await approvers.signed("the document", tmp_path / "none")


def test_keys_in_words() -> None:
    assert "a click is enough" in approvers.approvers(())
    heads, anna, bert = approvers.approvers(ROWS).splitlines()
    assert heads.split() == ["NAME", "KIND", "ENROLLED", "STATE", "FINGERPRINT"]
    assert (anna.split()[:2], "decides" in anna) == (["anna", "ssh-ed25519"], True)
    assert ("passkey" in bert, "revoked" in bert, "\x1b" in bert) == (True, True, False)
    assert [approvers.approver(each) for each in ROWS] == [
        "anna (ssh-ed25519, SHA256:one) decides proposals",
        "bert (passkey, SHA256:two\\x1b) is revoked: it decides nothing any more",
    ]


@pytest.mark.parametrize(
    ("web", "port", "origins"),
    [
        (Web(), 7000, ["http://localhost:7000"]),
        (Web(), 80, ["http://localhost"]),
        (Web(hosts=("hive.example", "10.0.0.7:7000", "[::1]:7000", "[::1]")), 7000, None),
        (
            Web(hosts=("hive.example:8443",), https=True),
            7000,
            ["https://localhost:7000", "https://hive.example:8443"],
        ),
        (Web(https=True), 443, ["https://localhost"]),
    ],
)
def test_passkeys_count_at_the_names_of_the_dashboard(web: Web, port: int, origins: list[str] | None) -> None:
    found = passkey_origins(web, port)
    assert found == (["http://localhost:7000", "http://hive.example"] if origins is None else origins)
    assert all(settled(f'passkey_origins = ["{each}"]').passkey_origins == (each,) for each in found)


@pytest.mark.parametrize(
    "line",
    [
        'passkey_origins = ["localhost:7000"]',
        'passkey_origins = ["http://localhost:7000/"]',
        'passkey_origins = ["http://HIVE.example"]',
        "approvers_required = 0",
        "approvers_required = 3",
    ],
)
def test_settings_about_keys_that_cannot_be(line: str) -> None:
    with pytest.raises(SettingsFault, match=line.split(maxsplit=1)[0]):
        settled(line)


def settled(line: str) -> PrivdSettings:
    whole = (
        'state = "/s"\nrun = "/r"\nuid_first = 1\nenvironment = "/e"\n'
        f"{line}\n[peers]\nbroker_uid = 1\nweb_uid = 2\negress_uid = 3\n"
    )
    return parse_settings(whole, PrivdSettings, origin="privd.toml")
