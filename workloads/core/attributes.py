"""Describes everything that a program's attributes hold, to compare two programs.

Unlike a state, a description also covers what no state can hold: text, arrays, iterators and
objects without `state_dict`. Functions, and values in C extensions without attributes, are left
out.
"""

# torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

import inspect
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import blake3
import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from workloads.core.program_state import fingerprint, flatten, is_number

DEPTH = 6
"""How many objects within objects are described."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """`kind`: number, text, tensor, array, generator, iterator, set or optimizer (also a schedule).
    `value`: text that differs if the content does; of an iterator, text that always differs."""

    kind: str
    value: str


def described(path: str, value: Any) -> dict[str, Described]:
    """Python path, such as `self.model.calls` or `self.seen['a']` -> what is there."""
    return dict(_walk(path, value, set(), DEPTH))


def _walk(path: str, value: Any, seen: set[int], depth: int) -> Iterator[tuple[str, Described]]:
    single = _single(value)
    if single is not None:
        yield path, single
        return
    if id(value) in seen or not depth:
        return
    seen.add(id(value))
    for name, part in _parts(value):
        yield from _walk(path + name, part, seen, depth - 1)


def _single(value: Any) -> Described | None:
    """The description of a value that is not taken apart."""
    if isinstance(value, torch.Tensor):
        content = f"{fingerprint([('', value)])} {value.requires_grad}"
        return Described(kind="tensor", value=content)
    if is_number(value):  # NumPy's float64, too: a state brings it back as a float
        return Described(kind="number", value=fingerprint([("", value)]))
    if isinstance(value, np.ndarray | np.generic):
        array = cast("np.ndarray[Any, Any]", value)
        return Described(kind="array", value=_content(array))
    if isinstance(value, int | complex):
        return Described(kind="number", value=repr(value))
    if isinstance(value, str | bytes | None):
        return Described(kind="text", value=repr(value))
    if isinstance(value, set | frozenset):
        content = sorted(repr(item) for item in cast("set[Any]", value))
        return Described(kind="set", value=repr(content))
    if isinstance(value, torch.Generator):
        return Described(kind="generator", value=fingerprint([("", value.get_state())]))
    if isinstance(value, np.random.Generator):
        return Described(kind="generator", value=repr(value.bit_generator.state))
    kind: type = type(cast("object", value))
    if isinstance(value, np.random.RandomState):
        return Described(kind="generator", value=repr(value.get_state()))
    if hasattr(kind, "getstate"):  # of Python's `random`
        return Described(kind="generator", value=repr(value.getstate()))
    if hasattr(kind, "__next__"):
        return Described(kind="iterator", value=f"{id(value)}")
    if isinstance(value, torch.optim.Optimizer | LRScheduler):
        return Described(kind="optimizer", value=fingerprint(flatten("", value.state_dict())))
    return None


def _content(array: "np.ndarray[Any, Any]") -> str:
    """Text that differs if the dtype, shape or values of an array or NumPy scalar do."""
    if array.dtype.hasobject:  # its bytes are addresses
        return f"{array.dtype} {array.tolist()!r}"
    return f"{array.dtype} {array.shape} {blake3.blake3(array.tobytes()).hexdigest()}"


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """(end of the path, part) of a container or an object."""
    if isinstance(value, dict):
        for key, item in cast("dict[Any, Any]", value).items():
            yield f"[{key!r}]", item
    elif isinstance(value, list | tuple | deque):
        for index, item in enumerate(cast("list[Any]", value)):
            yield f"[{index}]", item
    elif isinstance(value, torch.nn.Module):
        yield from ((f".{name}", one) for name, one in value.named_parameters(recurse=False))
        yield from ((f".{name}", one) for name, one in value.named_buffers(recurse=False))
        yield from ((f".{name}", one) for name, one in value.named_children())
        for name, item in vars(value).items():
            if name not in _MODULES_OWN:
                yield f".{name}", item
    elif hasattr(value, "__dict__") and not (
        inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value)
    ):
        held = cast("dict[str, Any]", vars(value))
        yield from ((f".{name}", item) for name, item in held.items())


_MODULES_OWN = frozenset(vars(torch.nn.Module()))
"""The attributes of every module: its parameters, buffers, children and hooks."""
