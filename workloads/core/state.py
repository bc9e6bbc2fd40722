"""State digests: one hex name for a mapping of names to tensors, the same on every machine.

One leaf per tensor in name order: canonical JSON of {name, dtype, shape, chunks}, where chunks are
the BLAKE3 digests of each MiB of the tensor's canonical bytes; the digest is the RFC 6962 root over
the leaves. Canonical bytes are little-endian and contiguous in row-major order. -0.0 stays -0.0.
NaN is refused, because a NaN's payload bits are nobody's decision.
"""

from collections.abc import Iterator, Mapping

import blake3
import torch

from gensyn_ray.domain import canonical, merkle

State = Mapping[str, torch.Tensor]
"""Everything the next step depends on: flat name -> tensor."""

CHUNK_BYTES = 1 << 20


class NotANumber(ValueError):
    """A tensor holds NaN; the message names it."""


def state_digest(state: State) -> str:
    """Hex digest of a state. Raises `NotANumber`."""
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
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    flat = flat.as_strided(flat.shape, (1,))  # one element counts as contiguous whatever its stride
    return memoryview(flat.view(torch.uint8).numpy().tobytes())
