"""The HTML that a browser gets: a shell with its boot block, the sign-in page, the page that says what went wrong."""

from pathlib import Path
from typing import Any, Final

import jinja2
import msgspec

from webd.http.answers import HTML, Answer
from webd.policy.refusals import title_of

TEMPLATES: Final = Path(__file__).parent / "templates"
_LINE_ENDS: Final = str.maketrans({"\u2028": "\\u2028", "\u2029": "\\u2029", "<": "\\u003c"})
"""What may not stand in a script element, or ends a line in one."""


class Shells:
    """The templates, compiled. `static` is the prefix of static files, `hive` the name of this hive."""

    def __init__(self, static: str, hive: str, folder: Path = TEMPLATES) -> None:
        self._hive = hive
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
        )
        self._environment.globals["static"] = static

    def app(self, title: str, boot: Any) -> Answer:
        """A page behind the sign-in, with everything it starts from."""
        text = msgspec.json.encode(boot).decode().translate(_LINE_ENDS)
        return self._page(200, "app.html", title=title, boot=text)

    def login(self, *, signed_in: bool) -> Answer:
        return self._page(200, "login.html", hive=self._hive, signed_in=signed_in)

    def lost(self, status: int, detail: str) -> Answer:
        return self._page(status, "lost.html", status=status, title=title_of(status), detail=detail)

    def _page(self, status: int, template: str, /, **context: Any) -> Answer:
        text = self._environment.get_template(template).render(context)
        return Answer(status, text.encode(), HTML)
