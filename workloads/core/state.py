"""State digests: the digest of a mapping from names to tensors, the same on every machine.

Each tensor gives one leaf, in the order of names: the canonical JSON of {name, dtype, shape,
chunks}. Chunks are the BLAKE3 digests of each MiB of the tensor's canonical bytes, which are
little-endian and in row-major order. The digest is the RFC 6962 root of the leaves. -0.0 stays
-0.0. NaN is refused, because no standard defines the payload bits of a computed NaN.
"""

from collections.abc import Iterator, Mapping

import blake3
import torch

from gensyn_ray.domain import canonical, merkle

State = Mapping[str, torch.Tensor]
"""Everything that the next step depends on: flat name -> tensor."""

CHUNK_BYTES = 1 << 20
"""Bytes of a tensor under one BLAKE3 digest."""


class NotANumber(ValueError):
    """A tensor holds NaN. The message names the tensor."""


def state_digest(state: State) -> str:
    """Hex digest of a state. Raises `NotANumber` if a tensor holds NaN."""
    return merkle.root_of(state_leaves(state)).hex()


def state_leaves(state: State) -> Iterator[bytes]:
    """The canonical leaf of each tensor, in name order. Raises `NotANumber`."""
    for name in sorted(state):
        tensor = state[name]
        data = canonical_bytes(name, tensor)
        yield canonical.encode(
            {
                "name": name,
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": list(tensor.shape),
                "chunks": [
                    blake3.blake3(data[at : at + CHUNK_BYTES]).hexdigest()
                    for at in range(0, len(data), CHUNK_BYTES)
                ],
            }
        )


def canonical_bytes(name: str, tensor: torch.Tensor) -> memoryview:
    """Row-major little-endian bytes of a tensor of any dtype and shape. Raises `NotANumber`."""
    if (tensor.is_floating_point() or tensor.is_complex()) and bool(torch.isnan(tensor).any()):
        raise NotANumber(f"the tensor {name!r} holds NaN: it cannot be committed")
    return raw_bytes(tensor)


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """Row-major little-endian bytes of a tensor of any dtype and shape, NaN included."""
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    flat = flat.as_strided(flat.shape, (1,))  # one element is contiguous with any stride
    return memoryview(flat.view(torch.uint8).numpy().tobytes())
