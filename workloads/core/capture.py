"""Takes the state out of a program's attributes, and puts it back.

These are functions, because a program may give any name to its own attributes and methods.
`workloads.core.program_state` tells what is state.
"""

# torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch

from gensyn_ray.domain.errors import UsageError
from workloads.core.program_state import (
    ALWAYS,
    Leaf,
    boxed,
    fingerprint,
    flatten,
    has,
    items_of,
    loaded,
    made,
    module_items,
    plain,
    reached,
    take,
    unsaved_buffers,
)
from workloads.core.state import State

GRADIENTS, TRAINED = "parameters.grad/", "parameters.requires_grad/"
"""Prefixes of names in the state. No attribute's name has a dot."""
START = "_gensyn_start"
"""The attribute of a program that holds what `begin` noted."""


class Stateful(Protocol):
    """A program. Its attributes are looked at by `vars`."""

    keeps_gradients: ClassVar[bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What `init` left. `parts`: part of the state -> fingerprint. `groups`: optimizer -> number of
    its parameter groups. `trained`: names of the tensors that require a gradient."""

    parts: dict[str, str]
    groups: dict[str, int]
    trained: frozenset[str]


def holdings(program: Stateful) -> list[Any]:
    """All objects in attributes and in their containers, whether they are state or not."""
    return [one for name, value in vars(program).items() for _, one in reached(name, value)]


def gradients(program: Stateful) -> dict[str, torch.Tensor]:
    """The present `.grad` of parameters and of tensors in attributes, by their names."""
    found = _trainable(program)
    return {name: tensor.grad for name, tensor in found if tensor.grad is not None}


def begin(program: Stateful) -> None:
    """Note what `init` left. The platform calls this after `init`.

    From then on the state leaves out the numbers and containers that `init` would make again.
    """
    parts = {name: fingerprint(items.items()) for name, items in _parts(program)}
    vars(program)[START] = _Start(parts=parts, groups=_groups(program), trained=_trained(program))


def get_state(program: Stateful) -> dict[str, torch.Tensor]:
    """Copies of the state's tensors by name. Numbers become tensors of shape ().

    Raises `UsageError` if a step added a parameter group to an optimizer."""
    start = vars(program).get(START) or _Start(
        parts={}, groups=_groups(program), trained=_trained(program)
    )
    for name, groups in _groups(program).items():
        if groups > start.groups.get(name, groups):
            raise UsageError(
                f"`self.{name}` gets a parameter group after `init`, and a replay would not "
                "know its parameters: make all groups in `init`, with lr = 0 until they train"
            )
    state = dict(_items(program))
    for name, items in _parts(program):
        if fingerprint(items.items()) != start.parts.get(name):
            state.update(items)
    trained = _trained(program)
    state.update({TRAINED + name: name in trained for name in trained ^ start.trained})
    return {name: boxed(value) for name, value in state.items()}


def set_state(program: Stateful, state: State) -> None:
    """Load a state into a program on which `init` ran. Parts that the state leaves out stay as
    `init` made them. Raises `KeyError` if it lacks a name."""
    taken: set[int] = set()
    for name, owner in owners(program):
        setattr(program, name, loaded(name, owner, state, taken))
    for name, value in _others(program):
        if has(name, state):
            setattr(program, name, loaded(name, value, state, taken))
    for name in {path.split("/")[0] for path in state}:  # attributes that a step set first
        if name.isidentifier() and name not in vars(program):
            setattr(program, name, made(name, state))
    for name, tensor in _trainable(program):
        if TRAINED + name in state:
            tensor.requires_grad_(bool(state[TRAINED + name]))
        given = state.get(GRADIENTS + name)
        tensor.grad = None if given is None else given.clone()


def owners(program: Stateful) -> Iterator[tuple[str, Any]]:
    """The attributes that are always in the state."""
    return ((name, one) for name, one in _public(program) if isinstance(one, ALWAYS))


def _others(program: Stateful) -> Iterator[tuple[str, Any]]:
    return ((name, one) for name, one in _public(program) if not isinstance(one, ALWAYS))


def _public(program: Stateful) -> list[tuple[str, Any]]:
    return sorted(item for item in vars(program).items() if not item[0].startswith("_"))


def _items(program: Stateful) -> Iterator[tuple[str, Leaf]]:
    for name, owner in owners(program):
        if isinstance(owner, torch.Tensor):
            yield name, owner
        elif isinstance(owner, torch.nn.Module):
            yield from module_items(name, owner)
        else:
            yield from flatten(name, owner.state_dict())
    if program.keeps_gradients:
        for name, gradient in gradients(program).items():
            yield GRADIENTS + name, gradient


def _parts(program: Stateful) -> Iterator[tuple[str, dict[str, Leaf]]]:
    """What is in the state once it differs from what `init` left, part by part."""
    taken: set[int] = set()
    for name, owner in owners(program):
        take(owner, taken)
        if isinstance(owner, torch.nn.Module):
            for path, buffer in unsaved_buffers(name, owner):
                yield path, {path: buffer}
    for name, value in _others(program):
        items = dict(items_of(name, value, taken))
        if items:
            yield name, items


def _trainable(program: Stateful) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor that can have a gradient: parameters, and tensors as attributes."""
    for attribute, value in _public(program):
        for name, one in reached(attribute, value):
            if isinstance(one, torch.nn.Module):
                for path, parameter in one.named_parameters():
                    yield f"{name}/{plain(path)}", parameter
            elif isinstance(one, torch.Tensor) and one.is_leaf and one.is_floating_point():
                yield name, one


def _trained(program: Stateful) -> frozenset[str]:
    return frozenset(name for name, tensor in _trainable(program) if tensor.requires_grad)


def _groups(program: Stateful) -> dict[str, int]:
    return {
        name: len(one.param_groups)
        for attribute, value in _public(program)
        for name, one in reached(attribute, value)
        if isinstance(one, torch.optim.Optimizer)
    }
