"""The arithmetic of DiLoCo (Douillard et al. 2023, arXiv 2311.08105, algorithm 1).

In each round every worker loads the same global state and takes inner steps with an optimizer of
its own. Its pseudo-gradient is start - end. The outer step applies the weighted mean of the
pseudo-gradients by SGD with Nesterov momentum.

Each round has a new inner optimizer. So a worker's part depends on the global state
alone: any node can take it over, and only the pseudo-gradient is stored and committed.

States map flat names to tensors. Their names are part of the state's digest:

| state           | tensors                                                              |
|-----------------|----------------------------------------------------------------------|
| global          | `parameters/NAME` and `momentum/NAME`, float32                       |
| pseudo-gradient | `change/NAME`, float32; or int8, with `scale/NAME` float32 per row   |

Each operation is elementwise, in a fixed order, with one IEEE-754 rounding at a time: the bits are
the same on every machine.

Not covered: sparse pseudo-gradients with error feedback (SparseLoCo, arXiv 2508.15706). The
feedback is state that the worker's next part depends on. It would have to be stored whole for
replays, which costs more bytes than the sparsity saves.
"""

# torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from workloads.core.state import NotANumber, State

PARAMETERS, MOMENTUM = "parameters/", "momentum/"
PSEUDO_GRADIENT, SCALE = "change/", "scale/"
"""Prefixes of tensor names. They are part of state digests: never rename them."""
_LEVELS = 127


def first_global(parameters: State) -> dict[str, torch.Tensor]:
    """The global state before the first round, from float32 parameters by name. Momentum is 0."""
    return {
        **{PARAMETERS + name: tensor for name, tensor in parameters.items()},
        **{MOMENTUM + name: torch.zeros_like(tensor) for name, tensor in parameters.items()},
    }


def is_global(state: State) -> bool:
    """Whether a state is a global one, not a program's own."""
    return bool(state) and all(name.startswith((PARAMETERS, MOMENTUM)) for name in state)


def parameters_of(state: State) -> dict[str, torch.Tensor]:
    """The parameters of a global state: the program's own name -> float32 tensor."""
    return _below(PARAMETERS, state)


def pseudo_gradient(start: State, end: State, bits: int) -> dict[str, torch.Tensor]:
    """start - end of each parameter, as a pseudo-gradient state.

    `start`, `end`: parameter name -> tensor of the same shape. `bits` = 32 gives float32. `bits` =
    8 gives int8 levels from -127 to 127, with one float32 scale for each row of a matrix (of the
    first dimension), or one for a whole vector or scalar.
    Raises `NotANumber` if a difference is not finite, `ValueError` for other `bits`."""
    if bits not in (8, 32):
        raise ValueError(f"a pseudo-gradient has 8 or 32 bits for each number, not {bits}")
    packed: dict[str, torch.Tensor] = {}
    for name, tensor in start.items():
        difference = np.asarray(_array(tensor) - _array(end[name]))
        if not np.isfinite(difference).all():
            raise NotANumber(f"{name!r} is not finite after the inner steps: they diverged")
        if bits == 32:
            packed[PSEUDO_GRADIENT + name] = torch.from_numpy(difference)
            continue
        rows = difference.reshape(len(difference) if difference.ndim > 1 else 1, -1)
        scale = np.abs(rows).max(axis=1, initial=0.0) / np.float32(_LEVELS)
        safe = np.where(scale > 0, scale, np.float32(1.0))
        levels = np.clip(np.rint(rows / safe[:, None]), -_LEVELS, _LEVELS).astype(np.int8)
        packed[PSEUDO_GRADIENT + name] = torch.from_numpy(levels.reshape(difference.shape))
        packed[SCALE + name] = torch.from_numpy(scale)
    return packed


def decoded(packed: State) -> dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]:
    """Parameter name -> float32 array, of a pseudo-gradient state with 8 or 32 bits."""
    found: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    scales = _below(SCALE, packed)
    for name, tensor in _below(PSEUDO_GRADIENT, packed).items():
        levels = tensor.numpy()
        if name in scales:
            scale = _array(scales[name])
            rows = levels.reshape(len(scale), -1).astype(np.float32) * scale[:, None]
            levels = rows.reshape(levels.shape)
        found[name] = levels
    return found


def outer_step(
    state: State,
    pseudo_gradients: Sequence[State],
    weights: Sequence[int],
    *,
    lr: float,
    momentum: float,
) -> dict[str, torch.Tensor]:
    """The next global state: SGD with Nesterov momentum on the mean of the pseudo-gradients.

    `state`: a global state. `weights`: one for each pseudo-gradient, its number of inner steps. The
    sum is in float64 and in the order given; the result is rounded once, to float32.
    A pseudo-gradient of another shape or type, or with numbers that are not finite, is left out, so
    that one bad worker cannot stop the run. If none is left, the state stays the same.
    Raises `ValueError` without weights or for a weight that is not positive."""
    if len(pseudo_gradients) != len(weights) or min(weights, default=0) <= 0:
        raise ValueError("an outer step needs pseudo-gradients, each with a positive weight")
    fitting = [
        (decoded(one), weight)
        for one, weight in zip(pseudo_gradients, weights, strict=True)
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
    """Whether a pseudo-gradient has every parameter's shape, and finite numbers."""
    tensors, scales = _below(PSEUDO_GRADIENT, packed), _below(SCALE, packed)
    if set(tensors) != set(parameters) or not set(scales) <= set(tensors):
        return False
    for name, tensor in tensors.items():
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
    """The tensors of a global state, without the run's progress."""
    return {n: one for n, one in state.items() if n.startswith((PARAMETERS, MOMENTUM))}


def _below(prefix: str, state: State) -> dict[str, torch.Tensor]:
    found: Mapping[str, torch.Tensor] = state
    return {name[len(prefix) :]: one for name, one in found.items() if name.startswith(prefix)}


def _array(tensor: torch.Tensor) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return tensor.detach().to(torch.float32).numpy()
