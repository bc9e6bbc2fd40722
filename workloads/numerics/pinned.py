"""The `pinned` mode: stock kernels, whose bits agree only among the nodes of one class.

A class is the digest after a short training run, and not a claim of the node. The run uses the
kernels whose results vary: matrix product, convolution, attention, normalisation, transcendental
functions, reductions.

`workloads.numerics.mode` has the canonical arithmetic, which gives the same bits on every machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn
from torch.nn import functional

from workloads.core.rng import Rng
from workloads.core.state import state_digest


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which stock kernels run on one thread, so that sums have one order. The number
    of threads is part of a class."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def numerics_class() -> str:
    """The class of this process: 12 hex digits. The first call takes about a tenth of a second."""
    with one_thread():
        return _train()[:12]


def _train() -> str:
    """State digest after four training steps of a small model: hex."""
    rng = Rng("numerics-self-test")
    conv, norm = nn.Conv2d(3, 16, 3, padding=1), nn.LayerNorm(64)
    attend, head = nn.Linear(64, 192), nn.Linear(64, 10)
    model = nn.ModuleList([conv, norm, attend, head])
    rng.init_linear_(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x, y = rng.uniform((8, 3, 16, 16), -2, 2), rng.integers((8 * 64,), 10)
    for _ in range(4):
        tokens = norm(functional.gelu(conv(x)).reshape(8, 64, 64))
        q, k, v = attend(tokens).chunk(3, dim=-1)
        mixed = functional.scaled_dot_product_attention(q, k, v) + torch.tanh(tokens)
        loss = functional.cross_entropy(head(mixed).reshape(-1, 10), y)
        optimizer.zero_grad()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        optimizer.step()
    return state_digest(model.state_dict())
