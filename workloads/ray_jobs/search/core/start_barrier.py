"""An actor on the head where a search's first trials wait for each other.

In a module of its own: what an actor's module imports, its process pays for in seconds.
"""


class StartBarrier:
    """Lets a job's first actors begin together, one on each node.

    Tune gives a trial whose actor still starts to any actor that is free already. Where trials are
    short and starting is slow, the first node to be ready would take the work of all the others.
    """

    def __init__(self, expected: int) -> None:
        self._missing = expected

    def arrive(self) -> None:
        self._missing -= 1

    def open(self) -> None:
        self._missing = 0

    def is_open(self) -> bool:
        return self._missing <= 0
