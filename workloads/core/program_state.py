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
numbers of one dtype is one tensor of shape (n,); an empty container is one of shape (0,).

Names and dtypes are the same for a value and for what is loaded from its state, so an operator
that goes on and a verifier that loads give one digest. A list whose numbers have a name each, but
one dtype, comes back as tensors of shape ().

Not covered: text, None, NumPy arrays and other objects. `workloads.core.vet` finds those that a
later step reads. Of a container that a step makes and `init` did not, only names are stored: keys
that look like an int or bool come back as one, and a list of numbers as a tensor. What has the keys
0, 1, ... comes back as a dict if it holds numbers of one dtype, otherwise as a list.
"""

# torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import blake3
import torch
from torch.nn.parameter import is_lazy
from torch.optim.lr_scheduler import LRScheduler

from workloads.core.state import State, raw_bytes

Leaf = torch.Tensor | bool | int | float
ALWAYS = (torch.Tensor, torch.nn.Module, torch.optim.Optimizer, LRScheduler)
"""Kinds of attributes that are in the state from the start."""
COMPILED = "_orig_mod."
"""What `torch.compile` adds to the names of a module's tensors."""
GAPS = 2**20
"""How many items of a list may lack a name. A stranger's state cannot make a longer list."""
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
    """A digest of names, dtypes and bits, to tell whether they change. A number has the digest of
    its tensor."""
    found = blake3.blake3()
    for name, value in items:
        if isinstance(value, torch.Tensor) or is_number(value):
            tensor = value if isinstance(value, torch.Tensor) else boxed(value)
            found.update(repr((name, tensor.dtype, tensor.shape)).encode())
            found.update(raw_bytes(tensor))
        else:  # an int of more than 64 bits
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
    """The tensors that the module itself saves. A lazy layer has some after its first call only."""
    for path, item in module.state_dict().items():
        if not is_lazy(item):
            yield from flatten(f"{name}/{plain(path)}", item)


def unsaved_buffers(name: str, module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The buffers that the module does not save (`persistent=False`)."""
    saved = module.state_dict().keys()
    for path, buffer in module.named_buffers():
        if path not in saved and not is_lazy(buffer):
            yield f"{name}/{plain(path)}", buffer


def plain(path: str) -> str:
    """The name of a module's tensor as it is without `torch.compile`."""
    return path.replace(COMPILED, "")


def items_of(name: str, value: Any, taken: set[int]) -> Iterator[tuple[str, Leaf]]:
    """The named tensors and numbers of an attribute that is not in `ALWAYS`.

    `taken`: ids of objects that have a name already. It grows. No tuples: Python may use one
    object for equal ones."""
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
        if not isinstance(value, tuple):
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
        if not isinstance(value, tuple):
            taken.add(id(cast("object", value)))
        if name in state and not _is_row_of(value, state[name]):
            return unboxed(state[name])  # a step replaced the container
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
    counts = found and set(found) == set(range(len(found)))
    items = [found[index] for index in range(len(found))] if counts else []
    # Numbers of one dtype in a list would be one tensor, so these were in a dict.
    return found if not items or _row(items) is not None else items


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
                merged[int(name) if name.isdecimal() else name] = _as_found(found)
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


def _named_key(text: str) -> str | int:
    """The key that `_key` made the text of."""
    if text in ("True", "False"):
        return text == "True"
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and str(int(text)) == text:
        return int(text)
    return text.replace("%2F", "/").replace("%25", "%")


def _row(container: Any) -> torch.Tensor | None:
    """An empty container, or a sequence of numbers of one dtype, as one tensor."""
    if not container:
        return torch.zeros(0, dtype=torch.float64)
    kinds: set[type] = {type(item) for item in container}
    dtypes = {_dtype(kind) for kind in kinds}
    dtype = dtypes.pop()
    if isinstance(container, dict) or dtypes or dtype is None:
        return None
    try:
        return torch.tensor(list(container), dtype=dtype)
    except (OverflowError, RuntimeError):  # an int of more than 64 bits
        return None


def _is_row_of(container: Any, tensor: torch.Tensor) -> bool:
    """Whether the tensor can be what `_row` makes of a container of this type."""
    is_row = tensor.dim() == 1 and tensor.dtype in _DTYPES.values()
    return is_row and (not isinstance(container, dict) or len(tensor) == 0)


def _dtype(kind: type) -> torch.dtype | None:
    """The dtype of numbers of a type, such as `float` or NumPy's float64."""
    return next((dtype for base, dtype in _DTYPES.items() if issubclass(kind, base)), None)


def _load_dict(name: str, own: dict[Any, Any], state: State, taken: set[int]) -> None:
    left = _children(name, state)
    for key, item in list(own.items()):
        if not isinstance(key, str | int):
            continue
        path = f"{name}/{_key(key)}"
        if _key(key) in left:
            own[key] = loaded(path, item, left.pop(_key(key)), taken)
        elif any(True for _ in items_of(path, item, set(taken))):
            del own[key]  # a step removed it
    for key, part in left.items():
        own[_named_key(key)] = made(f"{name}/{key}", part)


def _loaded_row(name: str, own: Any, state: State, taken: set[int]) -> Any:
    parts = _children(name, state)
    if not all(key.isdecimal() for key in parts):  # a step made it a dict
        return made(name, state)
    items = (
        cast("list[Any]", state[name].tolist())
        if name in state
        else _loaded_items(name, own, parts, taken)
    )
    if isinstance(own, tuple):
        make = getattr(cast("Any", type(cast("object", own))), "_make", tuple)
        return make(items)
    grown = cast("list[Any]", own)  # or a deque, which has the same methods
    grown.clear()
    grown.extend(items)
    return grown


def _loaded_items(name: str, own: Any, parts: dict[str, State], taken: set[int]) -> list[Any]:
    """The items of a sequence that have a name each. One without a tensor or number is None, if
    `init` did not make it."""
    items = [
        loaded(f"{name}/{index}", item, parts[str(index)], taken) if str(index) in parts else item
        for index, item in enumerate(cast("Iterable[Any]", own))
        if str(index) in parts
        or not any(True for _ in items_of(f"{name}/{index}", item, set(taken)))
    ]
    end = 1 + max(map(int, parts), default=-1)
    if end > len(parts) + GAPS:
        raise ValueError(f"the state has an item {end - 1} of `{name}`, and few of those before it")
    for index in range(len(items), end):
        part = parts.get(str(index))
        items.append(None if part is None else made(f"{name}/{index}", part))
    # Numbers of one dtype would be one tensor, so these were tensors.
    return items if _row(items) is None else [boxed(item) for item in items]


def _children(name: str, state: State) -> dict[str, State]:
    """The first parts of the names below `name`, numbers in their order -> their part of the
    state, under whole names."""
    start = len(name) + 1
    found: dict[str, dict[str, torch.Tensor]] = {}
    for path, tensor in state.items():
        if path.startswith(f"{name}/"):
            found.setdefault(path[start:].split("/", 1)[0], {})[path] = tensor
    order = sorted(
        found, key=lambda key: (not key.isdecimal(), int(key) if key.isdecimal() else 0, key)
    )
    return {key: found[key] for key in order}


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
        int(name) if name.isdecimal() else name: _as_found(item)
        for name, item in cast("dict[str, Any]", value).items()
    }
