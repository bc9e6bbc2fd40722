"""Takes the state out of a program's attributes, and puts it back.

These are functions, because a program may give any name to its own attributes and methods.
`workloads.core.program_state` tells what is state.
"""

# torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch.nn.parameter import is_lazy

from gensyn_ray.domain.errors import UsageError
from workloads.core.program_state import (
    ALWAYS,
    Leaf,
    boxed,
    fingerprint,
    flatten,
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
    its parameter groups. `trained`: names of the tensors that require a gradient. `shared`: see
    `_shared`. `owners`: names of the attributes that were always in the state."""

    parts: dict[str, str]
    groups: dict[str, int]
    trained: frozenset[str]
    shared: frozenset[tuple[str, str]]
    owners: frozenset[str]


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
    start = _start(program)
    parts = {name: fingerprint(items.items()) for name, items in _parts(program, start.owners)}
    vars(program)[START] = dataclasses.replace(start, parts=parts)


def get_state(program: Stateful) -> dict[str, torch.Tensor]:
    """Copies of the state's tensors by name. Numbers become tensors of shape ().

    Raises `UsageError` if a step added a parameter group to an optimizer, or gave an attribute
    tensors that are also a module's."""
    start: _Start = vars(program).get(START) or _start(program)
    _refuse_late_groups(program, start)
    _refuse_late_shares(program, start)
    state = dict(_items(program, start.owners))
    for name, items in _parts(program, start.owners):
        if fingerprint(items.items()) != start.parts.get(name):
            state.update(items)
    trained = _trained(program)
    state.update({TRAINED + name: name in trained for name in trained ^ start.trained})
    return {name: boxed(value) for name, value in state.items()}


def _start(program: Stateful) -> _Start:
    """What the program has now, without the parts."""
    return _Start(
        parts={},
        groups=_groups(program),
        trained=_trained(program),
        shared=_shared(program),
        owners=frozenset(name for name, _ in owners(program)),
    )


def _refuse_late_groups(program: Stateful, start: _Start) -> None:
    for name, groups in _groups(program).items():
        if groups > start.groups.get(name, groups):
            raise UsageError(
                f"`self.{name}` gets a parameter group after `init`, and a replay would not "
                "know its parameters: make all groups in `init`, with lr = 0 until they train"
            )


def _refuse_late_shares(program: Stateful, start: _Start) -> None:
    for name, module in sorted(_shared(program) - start.shared):
        if (module, module) in start.shared:  # `init` made the module
            attribute, owner = name.split("/")[0], module.split("/")[0]
            raise UsageError(
                f"a step gives `self.{attribute}` tensors of `self.{owner}`, which change with it, "
                "and a replay would have copies that do not: keep a copy, such as "
                f"`copy.deepcopy(self.{owner}.state_dict())`, or `clone()` of a tensor; or begin "
                "the name with an underscore if each step sets it before it reads it"
            )


def set_state(program: Stateful, state: State) -> None:
    """Load a state into a program on which `init` ran. Parts that the state leaves out stay as
    `init` made them. Raises `KeyError` if it lacks a name."""
    taken: set[int] = set()
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for path, tensor in state.items():
        parts.setdefault(path.split("/")[0], {})[path] = tensor
    for name, owner in owners(program):
        setattr(program, name, loaded(name, owner, parts.get(name, {}), taken))
    for name, value in _others(program):
        if name in parts:
            setattr(program, name, loaded(name, value, parts[name], taken))
    for name, part in parts.items():  # attributes that a step set first
        if name.isidentifier() and name not in vars(program):
            setattr(program, name, made(name, part))
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


def _items(program: Stateful, first: frozenset[str]) -> Iterator[tuple[str, Leaf]]:
    """What is always in the state. `first`: the names of these attributes after `init`."""
    for name, owner in owners(program):
        if isinstance(owner, torch.Tensor):
            if name in first:
                yield name, owner
        elif isinstance(owner, torch.nn.Module):
            yield from module_items(name, owner)
        else:
            yield from flatten(name, owner.state_dict())
    if program.keeps_gradients:
        for name, gradient in gradients(program).items():
            yield GRADIENTS + name, gradient


def _parts(program: Stateful, first: frozenset[str]) -> Iterator[tuple[str, dict[str, Leaf]]]:
    """What is in the state once it differs from what `init` left, part by part. Also a tensor in
    place of a number: it is loaded as a number again. `first` as in `_items`."""
    taken: set[int] = set()
    for name, owner in owners(program):
        take(owner, taken)
        if isinstance(owner, torch.nn.Module):
            for path, buffer in unsaved_buffers(name, owner):
                yield path, {path: buffer}
        elif isinstance(owner, torch.Tensor) and name not in first:
            yield name, {name: owner}
    for name, value in _others(program):
        items = dict(items_of(name, value, taken))
        if items:
            yield name, items


def _shared(program: Stateful) -> frozenset[tuple[str, str]]:
    """(name of a tensor or module, name of a module) that have a storage in common. Each module
    has one with itself."""
    held = [
        (name, one)
        for attribute, value in _public(program)
        for name, one in reached(attribute, value)
        if isinstance(one, torch.Tensor | torch.nn.Module)
    ]
    modules: dict[int, set[str]] = {}
    for name, one in held:
        if isinstance(one, torch.nn.Module):
            for storage in _storages(one):
                modules.setdefault(storage, set()).add(name)
    return frozenset(
        (name, module)
        for name, one in held
        for storage in _storages(one)
        for module in modules.get(storage, ())
    )


def _storages(one: torch.Tensor | torch.nn.Module) -> Iterator[int]:
    """Identities of the memory that a tensor, or a module's tensors, use now."""
    tensors = [one] if isinstance(one, torch.Tensor) else [*one.parameters(), *one.buffers()]
    for tensor in tensors:
        if is_lazy(tensor):  # it has no memory yet, and stays this object when it gets some
            yield -id(tensor)
        elif tensor.layout == torch.strided and tensor.untyped_storage().data_ptr():
            yield tensor.untyped_storage().data_ptr()


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
