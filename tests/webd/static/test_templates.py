"""The roles that the spawn form offers are the hive's own."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
MANAGER = "manager"


def test_the_form_offers_every_role_but_the_managers() -> None:
    text = (ROOT / "webd" / "static" / "words" / "templates.js").read_text()
    roles = {each.name for each in (ROOT / "privd" / "templates" / "roles").iterdir() if each.is_dir()}
    assert set(re.findall(r'"([a-z]+)"', text)) == roles - {MANAGER}
