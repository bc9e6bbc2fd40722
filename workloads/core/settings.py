"""Settings that a task's config gives, kept when the task starts from another task's state.

Population based training gives a trial the state of a donor and a new config. The state also holds
the donor's settings: the learning rate, momentum and so on in an optimizer's parameter groups, and
a schedule's base rates. The rule: what a constructor takes as an argument comes from the config,
what `step` counts or accumulates comes from the donor. A rate that a schedule has changed keeps
the schedule's factor: donor's rate / donor's base rate * own base rate.

A state tells whose it is by its random key (`workloads.core.segment`), so an operator and a
verifier decide alike from state and spec.

Not covered: a setting that a program keeps in a tensor. It comes from the donor. A schedule that
has no base rate (`ReduceLROnPlateau`) begins again at the config's rate.
"""

# torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

_FROM_ARGUMENTS: frozenset[str] = frozenset(
    (
        # Torch's schedules compute these from their arguments, in themselves or in the groups.
        *("base_lrs", "max_lrs", "min_lrs", "base_momentums", "max_momentums"),
        *("total_size", "step_ratio", "milestones", "_milestones"),
        *("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr"),
    )
)
_NOT_SETTINGS = frozenset(("self", "params", "optimizer", "last_epoch"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    owner: Any
    values: list[dict[str, Any]]
    """Of each parameter group; or one mapping, of a schedule's attributes."""


class Settings:
    """The settings of optimizers and schedules. Taken before a state is loaded, put back after.

    `owners`: objects of any kind; others are ignored."""

    def __init__(self, owners: Iterable[Any]) -> None:
        found = [one for owner in owners for one in _with_nested(owner)]
        self._kept = [_Kept(owner=one, values=_values(one)) for one in found]

    def put_back(self) -> None:
        """Set each owner's settings to the values that they had when this object was made."""
        for kept in self._kept:
            if isinstance(kept.owner, torch.optim.Optimizer):
                for group, own in zip(kept.owner.param_groups, kept.values, strict=True):
                    rate = _scheduled(group, own)
                    group.update(own)
                    group["lr"] = rate
        for kept in self._kept:
            if isinstance(kept.owner, LRScheduler):
                vars(kept.owner).update(kept.values[0])
                rates = [group["lr"] for group in kept.owner.optimizer.param_groups]
                vars(kept.owner)["_last_lr"] = rates


def _with_nested(owner: Any) -> list[Any]:
    if isinstance(owner, torch.optim.Optimizer):
        return [owner]
    if not isinstance(owner, LRScheduler):
        return []
    nested: list[Any] = getattr(owner, "_schedulers", [])
    return [owner, *(one for part in nested for one in _with_nested(part))]


def _values(owner: torch.optim.Optimizer | LRScheduler) -> list[dict[str, Any]]:
    names = _setting_names(type(owner))
    holders: list[dict[str, Any]] = (
        owner.param_groups if isinstance(owner, torch.optim.Optimizer) else [vars(owner)]
    )
    return [{name: value for name, value in one.items() if name in names} for one in holders]


def _setting_names(kind: type) -> set[str]:
    found = set[str](_FROM_ARGUMENTS)
    for base in kind.__mro__[:-1]:
        if "__init__" in vars(base):
            found.update(inspect.signature(base.__init__).parameters)
    return found - _NOT_SETTINGS


def _scheduled(donors: dict[str, Any], own: dict[str, Any]) -> Any:
    """The rate of a group: the config's, times the factor of the donor's schedule."""
    theirs, mine = donors.get("initial_lr"), own.get("initial_lr")
    if not theirs or mine is None:
        return own["lr"]
    return donors["lr"] if mine == theirs else donors["lr"] / theirs * mine
