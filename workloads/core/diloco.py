"""Loosely coupled training: workers take many steps alone, then their changes are averaged.

DiLoCo (Douillard et al. 2023, arXiv 2311.08105, algorithm 1): from the same parameters every worker
takes H steps of its own optimizer; the *change* start - end is its pseudo-gradient; an outer SGD
with Nesterov momentum applies the mean. Here a worker keeps nothing between rounds, its optimizer
begins afresh: so a round depends on the global state alone, any node can take any worker's round,
and what is stored and committed of it is the change, in 8 bits a number if so asked.

States, flat name -> tensor: a *global* state holds `parameters/NAME` and `momentum/NAME`, float32;
a *change* holds `change/NAME`, float32, or int8 with `scale/NAME` float32, one for each row.

Everything is elementwise, in one order, one IEEE-754 rounding at a time: the same bits anywhere.

Not covered: sending only the largest numbers with error feedback (SparseLoCo, arXiv 2508.15706).
What is held back would be state that the worker's next round depends on: it would have to be stored
whole for whoever replays that round, which costs more bytes than it saves.
"""

# torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from workloads.core.state import NotANumber, State

PARAMETERS, MOMENTUM, CHANGE, SCALE = "parameters/", "momentum/", "change/", "scale/"
_LEVELS = 127


def first_global(parameters: State) -> dict[str, torch.Tensor]:
    """The global state before the first round: momentum is zero."""
    return {
        **{PARAMETERS + name: tensor for name, tensor in parameters.items()},
        **{MOMENTUM + name: torch.zeros_like(tensor) for name, tensor in parameters.items()},
    }


def parameters_of(state: State) -> dict[str, torch.Tensor]:
    """The parameters of a global state, by the program's own names."""
    return _below(PARAMETERS, state)


def change(start: State, end: State, bits: int) -> dict[str, torch.Tensor]:
    """start - end of each parameter, as 32-bit floats or in 8 bits. Raises `NotANumber` if one is
    not finite, `ValueError` for other `bits`."""
    if bits not in (8, 32):
        raise ValueError(f"a change has 8 or 32 bits a number, not {bits}")
    packed: dict[str, torch.Tensor] = {}
    for name, tensor in start.items():
        difference = np.asarray(_array(tensor) - _array(end[name]))
        if not np.isfinite(difference).all():
            raise NotANumber(f"{name!r} is not finite after the round's steps: they diverged")
        if bits == 32:
            packed[CHANGE + name] = torch.from_numpy(difference)
            continue
        rows = difference.reshape(len(difference) if difference.ndim > 1 else 1, -1)
        scale = np.abs(rows).max(axis=1, initial=0.0) / np.float32(_LEVELS)
        safe = np.where(scale > 0, scale, np.float32(1.0))
        levels = np.clip(np.rint(rows / safe[:, None]), -_LEVELS, _LEVELS).astype(np.int8)
        packed[CHANGE + name] = torch.from_numpy(levels.reshape(difference.shape))
        packed[SCALE + name] = torch.from_numpy(scale)
    return packed


def unpacked(packed: State) -> dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]:
    """The float32 change of each parameter."""
    found: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    scales = _below(SCALE, packed)
    for name, tensor in _below(CHANGE, packed).items():
        levels = tensor.numpy()
        if name in scales:
            scale = _array(scales[name])
            rows = levels.reshape(len(scale), -1).astype(np.float32) * scale[:, None]
            levels = rows.reshape(levels.shape)
        found[name] = levels
    return found


def merge(
    state: State,
    changes: Sequence[State],
    weights: Sequence[int],
    *,
    lr: float,
    momentum: float,
) -> dict[str, torch.Tensor]:
    """The next global state: Nesterov on the mean of the changes, weighted by `weights` (tokens,
    say), added in the order given.

    A change that does not fit the state, or is not finite, is left out: whoever sent it must not
    stop the others. Without any, nothing moves. Raises `ValueError` for weights that are none."""
    if len(changes) != len(weights) or min(weights, default=0) <= 0:
        raise ValueError("a merge needs changes, each with a positive weight")
    fitting = [
        (unpacked(one), weight)
        for one, weight in zip(changes, weights, strict=True)
        if _fits(one, parameters_of(state))
    ]
    if not fitting:
        return {name: tensor.clone() for name, tensor in _own(state).items()}
    total = sum(weight for _, weight in fitting)
    after: dict[str, torch.Tensor] = {}
    speeds = _below(MOMENTUM, state)
    for name, tensor in parameters_of(state).items():
        mean = np.zeros(tuple(tensor.shape))
        for one, weight in fitting:
            mean = mean + one[name].astype(np.float64) * float(weight)
        mean = mean / float(total)
        speed = speeds[name].numpy().astype(np.float64) * momentum + mean
        moved = tensor.numpy().astype(np.float64) - (speed * momentum + mean) * lr
        after[PARAMETERS + name] = torch.from_numpy(moved.astype(np.float32))
        after[MOMENTUM + name] = torch.from_numpy(speed.astype(np.float32))
    return after


def _fits(packed: State, parameters: State) -> bool:
    """Whether a change has every parameter's shape and finite numbers."""
    changes, scales = _below(CHANGE, packed), _below(SCALE, packed)
    if set(changes) != set(parameters) or not set(scales) <= set(changes):
        return False
    for name, tensor in changes.items():
        rows = tensor.shape[0] if tensor.dim() > 1 else 1
        kind, shape = (torch.int8, (rows,)) if name in scales else (torch.float32, None)
        if tensor.dtype != kind or tensor.shape != parameters[name].shape:
            return False
        numbers = scales.get(name, tensor)
        if numbers.dtype != torch.float32 or not bool(torch.isfinite(numbers).all()):
            return False
        if shape is not None and tuple(numbers.shape) != shape:
            return False
    return True


def _own(state: State) -> dict[str, torch.Tensor]:
    """The tensors of a global state, without how far it got."""
    return {n: one for n, one in state.items() if n.startswith((PARAMETERS, MOMENTUM))}


def _below(prefix: str, state: State) -> dict[str, torch.Tensor]:
    found: Mapping[str, torch.Tensor] = state
    return {name[len(prefix) :]: one for name, one in found.items() if name.startswith(prefix)}


def _array(tensor: torch.Tensor) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return tensor.detach().to(torch.float32).numpy()
