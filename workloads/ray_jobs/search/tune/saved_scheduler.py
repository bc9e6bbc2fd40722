"""Pickles a scheduler for the next driver of its job. (Tune saves searchers, not schedulers.)

Schedulers refer to Tune's trials. The next driver has other objects for the same trials, so a trial
is written as its id, and read as the trial with that id.

Not covered: schedulers that hold objects of the cluster (population based training, between an
exploit and its start) or cannot be pickled. They start afresh, as in Tune.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import cloudpickle
import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler


class _Pickler(cloudpickle.Pickler):
    def persistent_id(self, obj: Any) -> str | None:
        if isinstance(obj, ray.ObjectRef):
            raise pickle.PicklingError("refers to this cluster, which the next driver lacks")
        return obj.trial_id if isinstance(obj, Trial) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, trials: Mapping[str, Trial]) -> None:
        super().__init__(io.BytesIO(data))
        self._trials = trials

    def persistent_load(self, pid: str) -> Trial:
        return self._trials[pid]


def save_scheduler(scheduler: TrialScheduler) -> bytes:
    """The scheduler as bytes for `load_scheduler`; empty if it cannot be pickled."""
    written = io.BytesIO()
    try:
        _Pickler(written).dump(scheduler)
    except Exception:  # the user's scheduler can raise anything
        return b""
    return written.getvalue()


def load_scheduler(data: bytes, trials: Mapping[str, Trial]) -> TrialScheduler:
    """The scheduler that `save_scheduler` wrote, with these trials.

    `trials`: trial id -> trial. Raises `KeyError` if it refers to another one."""
    return _Unpickler(data, trials).load()
