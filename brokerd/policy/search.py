"""What a user's words ask of the index, so that no text can be taken for its query language.

A word is what stands between blanks. Each is quoted whole: inside quotes there is no syntax but the quote itself,
which is doubled. The index splits `foo-bar` into two words that stand side by side, in messages and in searches alike.
"""

from collections.abc import Sequence

from msgspec import Struct


class Search(Struct, frozen=True):
    """Words that a message must all have; the last may be the beginning of one."""

    whole: tuple[str, ...]
    last: str

    @property
    def may_be_beginning(self) -> bool:
        """A single Latin letter begins too many words to be told from noise: it is a word of its own."""
        return len(self.last) > 1 or not self.last.isascii()


def search_for(text: str) -> Search | None:
    """The words of a text. None when nothing in it can be searched: only letters and digits are."""
    words = [word for word in text.replace("\0", " ").split() if any(char.isalnum() for char in word)]
    return Search(tuple(words[:-1]), words[-1]) if words else None


def expression(search: Search, agent: str | None, completions: Sequence[str] | None = None) -> str:
    """The query. `completions` are all words that the last one begins, where they are known to be few."""
    terms = []
    if search.whole:
        terms.append(_in_body(" ".join(quoted(word) for word in search.whole)))
    if completions:
        terms.append(_in_body(" OR ".join(quoted(word) for word in completions)))
    else:
        terms.append(_in_body(quoted(search.last) + ("*" if search.may_be_beginning else "")))
    if agent is not None:
        terms.append(f"{{parties}} : {quoted(agent)}")
    return " AND ".join(terms)


def _in_body(terms: str) -> str:
    return f"{{body}} : ({terms})"


def quoted(word: str) -> str:
    doubled = word.replace('"', '""')
    return f'"{doubled}"'
