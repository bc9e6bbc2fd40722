"""What in a program's attributes is state, and how it becomes named tensors and back.

| attribute                                                     | in the state                   |
|---------------------------------------------------------------|--------------------------------|
| tensor, module, optimizer, learning-rate scheduler            | always                         |
| number, `torch.Generator`, object with `state_dict` and       | once it differs from what      |
| `load_state_dict`; dict, list, tuple or deque of all these    | `init` left                    |
| non-persistent buffer, `requires_grad` of a parameter         | once it differs                |
| `.grad` of a parameter                                        | if `keeps_gradients` is set    |

What no step changes is made again by `init`, so it is not stored. Names are part of state digests:
never rename them. A number is a tensor of shape (), of dtype bool, int64 or float64. A list of
numbers of one type is one tensor of shape (n,); an empty container is one of shape (0,).

Not covered: text, None, NumPy arrays and other objects. `workloads.core.vet` finds those that a
later step reads. Of a container that a step
makes and `init` did not, only names are stored: keys of digits come back as int, a dict with the
keys 0, 1, ... as a list, and a list of numbers as a tensor.
"""

# torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import blake3
import torch
from torch.optim.lr_scheduler import LRScheduler

from workloads.core.state import State, raw_bytes

Leaf = torch.Tensor | bool | int | float
ALWAYS = (torch.Tensor, torch.nn.Module, torch.optim.Optimizer, LRScheduler)
"""Kinds of attributes that are in the state from the start."""
COMPILED = "_orig_mod."
"""What `torch.compile` adds to the names of a module's tensors."""
_DTYPES: dict[type, torch.dtype] = {bool: torch.bool, int: torch.int64, float: torch.float64}


def is_number(value: object) -> bool:
    """Whether a tensor of shape () holds it: a bool, a float or an int of 64 bits."""
    return isinstance(value, bool | float) or (isinstance(value, int) and -(2**63) <= value < 2**63)


def keeps_state(value: object) -> bool:
    """Whether it has the methods `state_dict` and `load_state_dict`."""
    return not isinstance(value, type) and all(
        callable(getattr(value, name, None)) for name in ("state_dict", "load_state_dict")
    )


def boxed(value: Leaf) -> torch.Tensor:
    """A copy of a tensor, or a number as a tensor of shape ()."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    kind = next(kind for kind in _DTYPES if isinstance(value, kind))
    return torch.tensor(value, dtype=_DTYPES[kind])


def unboxed(tensor: torch.Tensor) -> Leaf:
    """The number that `boxed` made a tensor of, or a copy of the tensor."""
    is_boxed = tensor.shape == () and tensor.dtype in (torch.bool, torch.int64, torch.float64)
    return tensor.item() if is_boxed else tensor.clone()


def fingerprint(items: Iterable[tuple[str, Leaf]]) -> str:
    """A digest of names, types and bits, to tell whether they change."""
    found = blake3.blake3()
    for name, value in items:
        if isinstance(value, torch.Tensor):
            found.update(repr((name, value.dtype, value.shape)).encode())
            found.update(raw_bytes(value))
        else:
            found.update(repr((name, value)).encode())
    return found.hexdigest()


def reached(name: str, value: Any, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """(name, object) of everything in nested containers that is no container itself."""
    seen = set() if seen is None else seen
    if not isinstance(value, dict | list | tuple | deque):
        yield name, value
    elif id(cast("object", value)) not in seen:
        seen.add(id(cast("object", value)))
        items = cast("Iterable[Any]", value.values() if isinstance(value, dict) else value)
        if not {type(item) for item in items} <= {bool, int, float, str}:  # quick for long lists
            for key, item in _pairs(value):
                yield from reached(f"{name}/{key}", item, seen)


def module_items(name: str, module: torch.nn.Module) -> Iterator[tuple[str, Leaf]]:
    """The tensors that the module itself saves."""
    for path, item in module.state_dict().items():
        yield from flatten(f"{name}/{plain(path)}", item)


def unsaved_buffers(name: str, module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The buffers that the module does not save (`persistent=False`)."""
    saved = module.state_dict().keys()
    for path, buffer in module.named_buffers():
        if path not in saved:
            yield f"{name}/{plain(path)}", buffer


def plain(path: str) -> str:
    """The name of a module's tensor as it is without `torch.compile`."""
    return path.replace(COMPILED, "")


def items_of(name: str, value: Any, taken: set[int]) -> Iterator[tuple[str, Leaf]]:
    """The named tensors and numbers of an attribute that is not in `ALWAYS`.

    `taken`: ids of objects that have a name already. It grows."""
    if is_number(value):
        yield name, value
    elif id(value) in taken:
        return
    elif isinstance(value, torch.Generator):
        yield name, value.get_state()
    elif isinstance(value, torch.Tensor):
        taken.add(id(value))
        yield name, value
    elif isinstance(value, torch.nn.Module):
        take(value, taken)
        yield from module_items(name, value)
        yield from unsaved_buffers(name, value)
    elif keeps_state(value):
        taken.add(id(value))
        yield from flatten(name, value.state_dict())
    elif isinstance(value, dict | list | tuple | deque):
        taken.add(id(cast("object", value)))
        row = _row(value)
        if row is not None:
            yield name, row
            return
        for key, item in _pairs(value):
            yield from items_of(f"{name}/{key}", item, taken)


def take(value: Any, taken: set[int]) -> None:
    """Note that an object, and all that a module holds, have names."""
    taken.add(id(value))
    if isinstance(value, torch.nn.Module):
        taken.update(id(one) for one in value.modules())
        taken.update(id(one) for one in value.parameters())
        taken.update(id(one) for one in value.buffers())


def loaded(name: str, value: Any, state: State, taken: set[int]) -> Any:
    """`value` with what the state has under `name`. Changed in place where that is possible.

    `taken` as in `items_of`: such objects stay as they are."""
    if is_number(value) or value is None:
        return made(name, state)
    if id(value) in taken:
        return value
    if isinstance(value, torch.Generator):
        value.set_state(state[name].clone())
    elif isinstance(value, torch.Tensor):
        taken.add(id(value))
        return load_tensor(value, state[name])
    elif isinstance(value, torch.nn.Module):
        take(value, taken)
        load_module(name, value, state)
    elif keeps_state(value):
        taken.add(id(value))
        value.load_state_dict(merge(value.state_dict(), _unflatten(name, state)))
    elif isinstance(value, dict | list | tuple | deque):
        taken.add(id(cast("object", value)))
        if name in state and state[name].dim() != 1:  # a step replaced the container
            return unboxed(state[name])
        if isinstance(value, dict):
            _load_dict(name, cast("dict[Any, Any]", value), state, taken)
        else:
            return _loaded_row(name, value, state, taken)
    return cast("Any", value)


def made(name: str, state: State) -> Any:
    """What a step made and `init` did not: a tensor, a number, or a list or dict of these."""
    if name in state:
        return unboxed(state[name])
    found: dict[Any, Any] = {}
    _load_dict(name, found, state, set())
    return _as_list(found)


def load_tensor(own: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """`own` with the given values, or a copy of `given` if it has another shape or dtype."""
    if given.shape == own.shape and given.dtype == own.dtype:
        with torch.no_grad():  # in place: an optimizer may hold this tensor
            return own.copy_(given)
    return given.clone().requires_grad_(own.requires_grad)


def load_module(name: str, module: torch.nn.Module, state: State) -> None:
    """Load a module's tensors, also the buffers that it does not save."""
    given = _flat_below(name, state)
    for path, buffer in unsaved_buffers(name, module):
        tensor = given.pop(path.removeprefix(f"{name}/"), None)
        if tensor is not None:
            buffer.data = tensor.clone()
    own = {plain(path): path for path in module.state_dict()}
    module.load_state_dict({own.get(path, path): tensor for path, tensor in given.items()})


def has(name: str, state: State) -> bool:
    """Whether the state has anything under the name."""
    return name in state or any(one.startswith(f"{name}/") for one in state)


def flatten(prefix: str, value: Any) -> Iterator[tuple[str, Leaf]]:
    """The tensors and numbers in a `state_dict`. Text, None and callables come from `init`."""
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[Any, Any]", value).items():
            yield from flatten(f"{prefix}/{key}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast("list[Any]", value)):
            yield from flatten(f"{prefix}/{index}", item)
    elif isinstance(value, torch.Tensor | bool | int | float):
        yield prefix, value


def merge(shape: Any, values: Any) -> Any:
    """`values` in the structure of `shape`, plus the keys that only `values` has.

    Those are an optimizer's moments: a fresh optimizer has none.
    """
    given = cast("dict[str, Any]", values if isinstance(values, dict) else {})
    if isinstance(shape, Mapping):
        known = {str(key): (key, item) for key, item in cast("Mapping[Any, Any]", shape).items()}
        merged = {key: merge(item, given.get(name)) for name, (key, item) in known.items()}
        for name, found in given.items():
            if name not in known:
                merged[int(name) if name.isdigit() else name] = _as_found(found)
        return merged
    if isinstance(shape, list | tuple):
        items = cast("list[Any]", shape)
        merged_items = [merge(item, given.get(str(i))) for i, item in enumerate(items)]
        return tuple(merged_items) if isinstance(shape, tuple) else merged_items
    if isinstance(values, torch.Tensor) and not isinstance(shape, torch.Tensor):
        return values.item()
    return values.clone() if isinstance(values, torch.Tensor) else shape


def _pairs(container: Any) -> list[tuple[str, Any]]:
    """(key in names, item). A dict's keys that are neither text nor int have no names."""
    if not isinstance(container, dict):
        return [(str(index), item) for index, item in enumerate(container)]
    return [
        (_key(key), item)
        for key, item in cast("dict[Any, Any]", container).items()
        if isinstance(key, str | int)
    ]


def _key(key: str | int) -> str:
    return str(key).replace("%", "%25").replace("/", "%2F")


def _row(container: Any) -> torch.Tensor | None:
    """An empty container, or a sequence of numbers of one type, as one tensor."""
    if not container:
        return torch.zeros(0, dtype=torch.float64)
    kinds: set[type] = {type(item) for item in container}
    dtype = _DTYPES.get(kinds.pop())
    if isinstance(container, dict) or kinds or dtype is None:
        return None
    try:
        return torch.tensor(list(container), dtype=dtype)
    except (OverflowError, RuntimeError):  # an int of more than 64 bits
        return None


def _load_dict(name: str, own: dict[Any, Any], state: State, taken: set[int]) -> None:
    left = _children(name, state)
    for key, item in list(own.items()):
        if not isinstance(key, str | int):
            continue
        path = f"{name}/{_key(key)}"
        if _key(key) in left:
            own[key] = loaded(path, item, state, taken)
            left.remove(_key(key))
        elif any(True for _ in items_of(path, item, set(taken))):
            del own[key]  # a step removed it
    for key in left:
        found = key.replace("%2F", "/").replace("%25", "%")
        own[int(found) if found.isdigit() else found] = made(f"{name}/{key}", state)


def _loaded_row(name: str, own: Any, state: State, taken: set[int]) -> Any:
    if name in state:
        items = cast("list[Any]", state[name].tolist())
    else:
        names = set(_children(name, state))
        items = [
            loaded(f"{name}/{index}", item, state, taken) if str(index) in names else item
            for index, item in enumerate(cast("Iterable[Any]", own))
            if str(index) in names
            or not any(True for _ in items_of(f"{name}/{index}", item, set(taken)))
        ]
        while str(len(items)) in names:
            items.append(made(f"{name}/{len(items)}", state))
    if isinstance(own, tuple):
        make = getattr(cast("Any", type(cast("object", own))), "_make", tuple)
        return make(items)
    grown = cast("list[Any]", own)  # or a deque, which has the same methods
    grown.clear()
    grown.extend(items)
    return grown


def _children(name: str, state: State) -> list[str]:
    """The first parts of the names below `name`, numbers in their order."""
    found = {path.split("/")[0] for path in _flat_below(name, state)}
    return sorted(found, key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0, key))


def _flat_below(prefix: str, state: State) -> dict[str, torch.Tensor]:
    start = f"{prefix}/"
    return {name[len(start) :]: t for name, t in state.items() if name.startswith(start)}


def _unflatten(prefix: str, state: State) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, tensor in _flat_below(prefix, state).items():
        *parents, last = path.split("/")
        here = root
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = tensor
    return root


def _as_found(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return {
        int(name) if name.isdigit() else name: _as_found(item)
        for name, item in cast("dict[str, Any]", value).items()
    }


def _as_list(found: dict[Any, Any]) -> Any:
    """What a step made: a list if the keys count from 0, otherwise the dict itself."""
    is_list = found and set(found) == set(range(len(found)))
    return [found[index] for index in range(len(found))] if is_list else found
