"""An actor on the head where a search's first trials wait for each other.

It has a module of its own: an actor's process imports its module, and this one imports nothing.
"""


class StartBarrier:
    """Lets the first actors of a job start to train together, one on each node.

    Tune gives a trial whose actor still starts to an actor that is ready. If trials are short and
    starting is slow, the first ready node would compute all of them."""

    def __init__(self, expected: int) -> None:
        self._missing = expected

    def arrive(self) -> None:
        """One actor is ready."""
        self._missing -= 1

    def open(self) -> None:
        """Let all actors through, whatever their number."""
        self._missing = 0

    def is_open(self) -> bool:
        """Whether the expected number of actors has arrived, or `open` was called."""
        return self._missing <= 0
