"""`pinned` mode: stock kernels, whose bits agree only among nodes of one class.

A class is not what a node says it is but what it computes: the digest after a short training run
that touches the kernels whose results vary (matrix product, convolution, attention, normalisation,
transcendental functions, reductions). Run as a program, prints the class of its own environment.

Canonical arithmetic, equal on every machine, takes its place beside this module.
"""

import os
import subprocess
import sys
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from gensyn_ray.domain.errors import OperationError
from workloads.core.rng import Rng
from workloads.core.state import state_digest

PROFILES: Mapping[str, Mapping[str, str]] = {
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "baseline": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}
"""Environment of `ray start`, by name. Without the instructions a machine falls a class lower."""


def numerics_class() -> str:
    """The class that this process computes: 12 hex digits. About a tenth of a second.

    Leaves torch at one thread: the number of threads is part of a class.
    """
    torch.set_num_threads(1)
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
    return state_digest(model.state_dict())[:12]


def best_profiles() -> tuple[str, str]:
    """The two best instruction sets of this processor, best first."""
    best = torch.backends.cpu.get_cpu_capability()
    return ("avx512", "avx2") if best == "AVX512" else ("avx2", "baseline")


def class_in(environment: Mapping[str, str]) -> str:
    """The class of this machine under further environment variables. Raises `OperationError`."""
    done = subprocess.run(
        [sys.executable, "-m", "workloads.numerics.pinned"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise OperationError(f"the numerics self-test failed: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


if __name__ == "__main__":
    print(numerics_class())
