"""Calls of operators as canonical JSON: what golden vectors hold and traces commit to.

Numbers, lists and text stay what they are; floats are spelt in hexadecimal, so that every bit and
the difference between 1.0 and 1 survive. How a tensor is written is the caller's choice: its digest
where it is compared, its bits where the call is made again from the file.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import blake3
import torch

from workloads.core.state import canonical_bytes
from workloads.numerics.registry import Operator

EXACT = 1 << 53
"""Whole numbers from here on are written as text: JSON's are doubles."""

_KINDS: Mapping[str, type] = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}


def to_json(value: Any, tensor: Callable[[torch.Tensor], Any]) -> Any:
    """A value of an operator's schema as JSON. Raises `TypeError` for a kind that has no form."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < EXACT else {"whole": str(value)}
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, torch.Tensor):
        return {"tensor": tensor(value)}
    if isinstance(value, list | tuple):
        return [to_json(one, tensor) for one in value]
    if isinstance(value, torch.device):
        return {"device": value.type}
    for name, kind in _KINDS.items():
        if isinstance(value, kind):
            return {name: str(value).removeprefix("torch.")}
    raise TypeError(f"an operator's argument of type {type(value).__name__} cannot be written")


def from_json(value: Any, tensor: Callable[[Any], torch.Tensor]) -> Any:
    """The inverse of `to_json`; tuples come back as lists, which ATen takes as well."""
    if isinstance(value, list):
        return [from_json(one, tensor) for one in value]
    if not isinstance(value, dict):
        return value
    ((kind, item),) = value.items()
    if kind == "tensor":
        return tensor(item)
    if kind == "float":
        return float.fromhex(item)
    if kind == "whole":
        return int(item)
    return torch.device(item) if kind == "device" else getattr(torch, item)


def digest(x: torch.Tensor) -> dict[str, Any]:
    """dtype, shape and BLAKE3 digest of a tensor's canonical bytes. All NaNs count as one: their
    payload and sign are the processor's choice."""
    quiet = x.detach()
    if quiet.is_floating_point() and bool(torch.isnan(quiet).any()):
        marks = torch.isnan(quiet).to(torch.uint8)
        quiet = torch.where(torch.isnan(quiet), torch.zeros_like(quiet), quiet)
        data = bytes(canonical_bytes("NaN", marks)) + bytes(canonical_bytes("rest", quiet))
    else:
        data = canonical_bytes("", quiet)
    return {
        "dtype": str(x.dtype).removeprefix("torch."),
        "shape": list(x.shape),
        "blake3": blake3.blake3(data).hexdigest(),
    }


def bits(x: torch.Tensor) -> dict[str, Any]:
    """A tensor with its strides, as the bits of the memory that they span."""
    span = 1 + sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    memory = x.detach().as_strided((span if x.numel() else 0,), (1,))
    return {
        "dtype": str(x.dtype).removeprefix("torch."),
        "shape": list(x.shape),
        "stride": list(x.stride()),
        "bits": base64.b64encode(memory.clone().view(torch.uint8).numpy().tobytes()).decode(),
    }


def of_bits(spelt: Mapping[str, Any]) -> torch.Tensor:
    """The inverse of `bits`."""
    raw = torch.frombuffer(bytearray(base64.b64decode(spelt["bits"])) or bytearray(8), dtype=_BYTE)
    kind = getattr(torch, spelt["dtype"])
    return raw.view(kind).as_strided(spelt["shape"], spelt["stride"])


_BYTE = torch.uint8


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of a value of an operator's schema, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors_in(one)


def outputs(operator: Operator, args: tuple[Any, ...], result: Any) -> list[dict[str, Any]]:
    """Digests of what a call gave: its results and, if it writes to its arguments, those."""
    written = args if operator._schema.is_mutable else ()
    return [digest(x) for x in (*tensors_in(result), *tensors_in(written))]


def is_random(operator: Operator) -> bool:
    """Whether a call draws from a generator."""
    return torch.Tag.nondeterministic_seeded in operator.tags


def named(name: str) -> Operator:
    """The operator of a name such as `aten.mm.default`. Raises `AttributeError`."""
    namespace, packet, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload)
