"""Operator calls as canonical JSON, for golden vectors and traces.

Integers, lists and strings keep their form. A float is written in hexadecimal, which keeps every
bit and distinguishes 1.0 from 1. The caller chooses the form of a tensor: its digest, to compare
it, or its bits, to repeat the call.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import blake3
import torch

from workloads.core.state import canonical_bytes
from workloads.numerics.registry import Operator

EXACT = 1 << 53
"""Integers of this magnitude and above are written as strings: a JSON number is a double."""

_KINDS: Mapping[str, type] = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}


def to_json(value: Any, tensor: Callable[[torch.Tensor], Any]) -> Any:
    """A value of an operator's schema as JSON. `tensor`: the form of a tensor. Raises `TypeError`
    for a type without a form."""
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
    raise TypeError(f"an operator's argument of type {type(value).__name__} has no JSON form")


def from_json(value: Any, tensor: Callable[[Any], torch.Tensor]) -> Any:
    """The inverse of `to_json`. Tuples come back as lists, which ATen accepts."""
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
    """dtype, shape and BLAKE3 digest (64 hex digits) of the canonical bytes of a tensor.

    All NaNs count as equal, because their payload and sign depend on the processor.
    """
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
    """dtype, shape, strides (in elements) and the bits, in base64, of the memory that a tensor
    spans."""
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
    """The tensors in a value of an operator's schema, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors_in(one)


def outputs(operator: Operator, args: tuple[Any, ...], result: Any) -> list[dict[str, Any]]:
    """Digests of the results of a call, followed by those of its arguments if the operator writes
    to them."""
    written = args if operator._schema.is_mutable else ()
    return [digest(x) for x in (*tensors_in(result), *tensors_in(written))]


def is_random(operator: Operator) -> bool:
    """Whether the operator draws from a generator."""
    return torch.Tag.nondeterministic_seeded in operator.tags


def named(name: str) -> Operator:
    """The operator of a name such as `aten.mm.default`. Raises `AttributeError` for an unknown
    name."""
    namespace, packet, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload)
