"""What a search's program raised on the volunteers, and when that is enough. Plain but for Tune's
`Trial`, whose files have the error.

A trial whose program raises is started again, because one volunteer's word is not enough; a trial
that has raised `MAX_ERRORS` times is over. Bad data and configs count like a program's error. A
search ends when `MAX_ERRORS` trials have come to that and none has given a result: a trial alone
may fail, a learning rate that leads to NaN for one.

Not defended: a hostile node that gets the same trial each time can end it like this.
"""

from pathlib import Path

import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial

from gensyn_ray.domain.errors import GensynError
from workloads.core.program_errors import AUTHORS_FAULTS

MAX_ERRORS = 3


class TrialErrors:
    """Why starts of trials ended badly."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._works = False
        self.last = ""
        """The newest error: of the program, with the traceback of its own frames; if it raised
        nothing yet, why a node would not work."""

    def worked(self) -> None:
        """Some trial gave a result: the program is not broken altogether."""
        self._works = True

    def failed(self, trial: Trial) -> bool:
        """A start of a trial has failed. Whether the next failure should be its last."""
        error = _error_of(trial)
        if isinstance(error, AUTHORS_FAULTS):
            self._times[trial.trial_id] = self._times.get(trial.trial_id, 0) + 1
            self.last = str(error)
        elif isinstance(error, GensynError) and not self._times:
            self.last = str(error)
        return self._times.get(trial.trial_id, 0) >= MAX_ERRORS - 1

    @property
    def is_hopeless(self) -> bool:
        """Whether the program raised in so many trials that no trial can be expected to work."""
        over = sum(times >= MAX_ERRORS for times in self._times.values())
        return over >= MAX_ERRORS and not self._works


def _error_of(trial: Trial) -> Exception | None:
    """What ended a trial's last start, if it was an exception on a node."""
    path = trial.pickled_error_file
    if not path or not Path(path).exists():
        return None
    error = cloudpickle.loads(Path(path).read_bytes())
    return error.cause if isinstance(error, RayTaskError) else error
