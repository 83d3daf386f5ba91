"""A thing that is made when it is first needed, such as a model; if that fails, it fails once."""

from collections.abc import Callable
from typing import Generic, TypeVar

from localemp.errors import LocalempError

T = TypeVar("T")


class Once(Generic[T]):
    """Makes a thing by the first call, and returns it by each.

    Args:
        make: Makes the thing.

    Attributes:
        made: The thing, if it has been made.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._failure: LocalempError | None = None
        self.made: T | None = None

    def __call__(self) -> T:
        """Return the thing.

        Raises:
            LocalempError: It cannot be made; that is not tried again.
        """
        if self._failure is not None:
            raise self._failure
        try:
            self.made = self._make() if self.made is None else self.made
        except LocalempError as error:
            self._failure = error
            raise
        return self.made
