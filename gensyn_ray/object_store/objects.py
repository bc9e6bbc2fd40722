"""The interface of object stores, and their two failures.

    Missing         the store answers and has no intact object under the key
    Unreachable     the store did not answer after several attempts

The difference matters for pay. A lost state makes its audit UNAVAILABLE, and its operator is paid
without a replay. An unreachable store decides nothing.
"""

from typing import Protocol

from gensyn_ray.domain.errors import OperationError


class Missing(OperationError):
    """The store has no object under the key, or its content does not match its digest."""


class Objects(Protocol):
    """Objects under keys of the form `KIND/NAME`. Safe to use from several threads.

    A reader sees a whole object or none. Methods raise `OperationError` if the store refuses and
    `Unreachable` if it does not answer.
    """

    def put(self, key: str, data: bytes) -> None:
        """Store an object. It replaces an object under the same key."""
        ...

    def get(self, key: str) -> bytes:
        """The object. Raises `Missing`."""
        ...
