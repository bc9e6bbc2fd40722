"""An actor on the head between the job driver and the workers of a DiLoCo run.

It has a module of its own: an actor's process imports its module, and this one imports nothing.
"""


class Exchange:
    """Passes assignments to workers, and the list of workers and their errors to the driver.

    A worker's id is new with each start of its process. Its rank is Ray Train's."""

    def __init__(self) -> None:
        self._workers: dict[int, str] = {}
        self._size = 0
        self._assignments: dict[str, str | None] = {}
        self._is_over = False
        self._errors: list[str] = []

    def enter(self, worker: str, rank: int, size: int) -> None:
        """A worker of a group of `size` started. A rank that is taken, or another size, means a new
        group: the workers of the former one are gone."""
        if rank in self._workers or size != self._size:
            self._workers, self._size = {}, size
        self._workers[rank] = worker

    def assignment(self, worker: str) -> tuple[str | None, bool]:
        """(the task that a worker must run now, whether the run is over)."""
        return self._assignments.get(worker), self._is_over

    def report_error(self, error: str) -> None:
        """The program raised on a worker, which ends."""
        self._errors.append(error)

    def report_error_and_rejoin(self, error: str, rank: int, worker: str) -> None:
        """The program raised on the worker of this rank, which continues under a new id. The driver
        sees the old id leave, so another worker can take its task, without a new group."""
        self._errors.append(error)
        self._workers[rank] = worker

    def post(
        self, assignments: dict[str, str | None], is_over: bool
    ) -> tuple[list[str], int, list[str]]:
        """Take the driver's assignments: worker -> task.

        Returns (workers that have started, by rank; how many of their group have not; all errors of
        the program so far)."""
        self._assignments, self._is_over = assignments, is_over
        started = [self._workers[rank] for rank in sorted(self._workers)]
        return started, self._size - len(started), self._errors
