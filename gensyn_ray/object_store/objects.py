"""What every place for objects can do, and the two ways in which it can fail.

    Missing         the place answers, and has nothing (or something damaged) under that key
    Unreachable     the place did not answer, after several attempts: ask again later

The difference matters to the books: a lost state means that its operator is paid unseen, an
unreachable store means nothing yet.
"""

from typing import Protocol

from gensyn_ray.domain.errors import OperationError


class Missing(OperationError):
    """The store has nothing under that name, or something else than the name says."""


class Objects(Protocol):
    """Whole objects under keys of the form `KIND/NAME`. Safe to use from several threads.

    A reader sees a whole object or none. Raises `OperationError` where the store refuses, and
    `Unreachable` where it does not answer.
    """

    def put(self, key: str, data: bytes) -> None:
        """Store an object; what was there before is replaced or was the same."""
        ...

    def get(self, key: str) -> bytes:
        """The object. Raises `Missing`."""
        ...
