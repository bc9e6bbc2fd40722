"""Counts what a search's program raised on the volunteers, and decides when to give up.

A trial whose program raises starts again, because one node can claim any error. After `MAX_ERRORS`
such starts it is over. Bad data and bad configs count as the program's errors. A search ends when
`MAX_ERRORS` trials are over in this way and no trial has given a result. A single trial may fail,
for instance by a learning rate that leads to NaN.

Not defended: a hostile node that gets the same trial each time can end it with false errors.
"""

from pathlib import Path

import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial

from gensyn_ray.domain.errors import GensynError
from workloads.core.program_errors import AUTHORS_FAULTS

MAX_ERRORS = 3


class TrialErrors:
    """The errors of a search's trials."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._works = False
        self.last = ""
        """The newest error of the program, with its own frames. Before there is one: the newest
        reason why a node refused a trial."""

    def worked(self) -> None:
        """A trial gave a result."""
        self._works = True

    def failed(self, trial: Trial) -> bool:
        """Count a trial's failed start. True if the next failure must be its last."""
        error = _error_of(trial)
        if isinstance(error, AUTHORS_FAULTS):
            self._times[trial.trial_id] = self._times.get(trial.trial_id, 0) + 1
            self.last = str(error)
        elif isinstance(error, GensynError) and not self._times:
            self.last = str(error)
        return self._times.get(trial.trial_id, 0) >= MAX_ERRORS - 1

    @property
    def is_hopeless(self) -> bool:
        """Whether `MAX_ERRORS` trials are over by the program's errors, and none gave a result."""
        over = sum(times >= MAX_ERRORS for times in self._times.values())
        return over >= MAX_ERRORS and not self._works


def _error_of(trial: Trial) -> Exception | None:
    """The exception that ended a trial's last start; None if the node died instead."""
    path = trial.pickled_error_file
    if not path or not Path(path).exists():
        return None
    error = cloudpickle.loads(Path(path).read_bytes())
    return error.cause if isinstance(error, RayTaskError) else error
