"""What a page begins with, changed on its way: states of a hive that a test would have to wait or upgrade for."""

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Route


def open_with(page: Page, path: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Open a page whose first snapshot *change* has been given: its topics, to be changed in place."""

    def told(route: Route) -> None:
        answer = route.fetch()
        head, _, rest = answer.text().partition('id="boot"')
        start, _, tail = rest.partition(">")
        boot, _, end = tail.partition("</script>")
        said = json.loads(boot)
        change(said["snapshot"]["topics"])
        encoded = json.dumps(said).replace("<", "\\u003c")
        route.fulfill(response=answer, body=f'{head}id="boot"{start}>{encoded}</script>{end}')

    page.route(f"**{path}", told)
    page.goto(path)
