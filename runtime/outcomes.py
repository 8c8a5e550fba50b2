"""What became of some work: its value, or the fault that ended it.

The same as in the package `outcome`, for what happens several times in each request: to make one of those and to take
its value out again costs as much as to decode a small request, and to ask which of the two it is, twice what it does
here.
"""

from typing import Generic, NoReturn, TypeAlias, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Value(Struct, Generic[T], frozen=True):
    """It went well."""

    value: T

    def unwrap(self) -> T:
        return self.value


class Error(Struct, frozen=True):
    """It did not."""

    error: BaseException

    def unwrap(self) -> NoReturn:
        """Raise it, and leave no circle behind: the fault knows this frame from then on."""
        error = self.error
        try:
            raise error
        finally:
            del error, self


Outcome: TypeAlias = Value[T] | Error
