"""A program's own data: the tensors of its `load_data`, as a prepared data set.

`load_data` runs in the submitter's process only. Its tensors travel under their digest, so nodes
and verifiers train on the same bits, whatever their processors and libraries. A node never calls
`load_data`: floating-point numbers that it computed would differ between classes of machines.
"""

# safetensors and torch leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

from collections.abc import Mapping
from typing import Any, cast

import safetensors
import safetensors.torch
import torch

from gensyn_ray.domain.errors import UsageError
from workloads.core.dataset import BadData, DataSet, Manifest, Prepared, digest_of
from workloads.core.program import Program
from workloads.core.rng import Rng, seed_torch

Tensors = dict[str, torch.Tensor]

FILE = "load_data.safetensors"
"""The only file of a data set that a program's `load_data` made."""


RESERVED = "__metadata__"
"""A name that the format of the file has for itself."""
DTYPES = frozenset(
    getattr(torch, name)
    for name in (
        *("bool", "uint8", "int8", "int16", "int32", "int64"),
        *("float16", "bfloat16", "float32", "float64"),
    )
)
"""Kinds of numbers that a program's own data may have."""


def load(program: Program) -> Tensors:
    """What `load_data` gives in stock PyTorch, with torch's generator at a fixed seed. Its code may
    use operators that have no canonical definition.

    Raises `UsageError` if that is not a mapping of names to tensors, and what `load_data` raises.
    """
    seed_torch(Rng("load_data").seed())
    found: Any = program.load_data()
    kind = type(program).__name__
    if not isinstance(found, Mapping):
        raise UsageError(
            f"{kind}.load_data gives a {type(found).__name__}: return a dict of tensors, such as "
            '{"x": ..., "y": ...}'
        )
    tensors: Tensors = {}
    for name, value in cast("Mapping[Any, Any]", found).items():
        if not isinstance(name, str) or name == RESERVED:
            raise UsageError(f"{kind}.load_data has the key {name!r}: name each tensor by a word")
        if not isinstance(value, torch.Tensor):
            raise UsageError(
                f"{kind}.load_data gives a {type(value).__name__} for {name!r}: return a tensor "
                "(torch.as_tensor makes one of numbers, lists and NumPy arrays)"
            )
        if value.layout is not torch.strided or value.dtype not in DTYPES:
            raise UsageError(
                f"{kind}.load_data gives {name!r} as {value.dtype} in {value.layout}: return dense "
                "numbers (float, integer or bool)"
            )
        tensors[name] = value.detach().to("cpu")
    if not tensors:
        raise UsageError(f"{kind}.load_data gives no tensor: return a dict of tensors")
    return tensors


def size_of(tensors: Tensors) -> int:
    """Bytes of the tensors together."""
    return sum(one.nbytes for one in tensors.values())


def pack(tensors: Mapping[str, torch.Tensor]) -> Prepared:
    """The data set that holds these tensors. The same tensors give the same digest."""
    apart = {name: one.clone().contiguous() for name, one in sorted(tensors.items())}
    data = safetensors.torch.save(apart)
    digest = digest_of(data)
    manifest = Manifest(splits={}, columns={}, files={FILE: digest})
    return Prepared(manifest=manifest, blobs={digest: data})


def unpack(data: DataSet) -> Tensors | None:
    """Fresh copies of the tensors that `pack` stored, in the order of their names; None for any
    other data set.

    Raises `BadData` if the file is damaged."""
    if list(data.manifest.files) != [FILE] or len(data):
        return None
    try:
        return dict(sorted(safetensors.torch.load(data.file(FILE)).items()))
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise BadData(f"{FILE} holds no tensors: {error}") from None
