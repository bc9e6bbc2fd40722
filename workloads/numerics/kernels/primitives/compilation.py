"""How kernels are compiled: numba, no fast-math, no contraction, a cache that knows its sources.

LLVM keeps the order of operations it is given and fuses no multiply-add unless it is allowed to,
so a kernel that follows a definition's order gives the definition's bits, vectorised or not.
`parallel=True` divides loops over independent results among threads; sums are of integers.

Not defended: whoever can write the cache folder decides what runs. It lies in the user's own cache
folder, or where NUMBA_CACHE_DIR says.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import extending, types
from numba.core import config as numba_config

config: Any = numba_config


def _cache_folder() -> str:
    """One folder for each state of these sources: numba itself looks only at a kernel's own file,
    not at the functions that were inlined into it."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "gensyn-ray" / f"kernels-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return tempfile.mkdtemp(prefix="gensyn-ray-kernels-")
    return str(folder)


if not config.CACHE_DIR:
    config.CACHE_DIR = _cache_folder()

kernel: Any = numba.njit(parallel=True, cache=True, nogil=True, error_model="numpy")
"""Decorates what is called from Python: loops over `prange` run on `use_threads()` threads."""
inlined: Any = numba.njit(cache=True, nogil=True, error_model="numpy", inline="never")
"""Decorates scalar functions that kernels call; LLVM inlines and vectorises them."""

intrinsic: Any = extending.intrinsic(prefer_literal=True)
"""Decorates what writes LLVM code itself. Literal arguments arrive as literal types."""


def use_threads() -> None:
    """As many threads as torch has in this process."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, config.NUMBA_NUM_THREADS))
    # Both share one OpenMP, and starting numba's part of it set torch's to all cores.
    torch.set_num_threads(threads)


use_threads()  # now: a kernel that is called outside `canonical` must not start them, see above


@intrinsic
def bits_of(context: Any, x: Any) -> Any:
    """The bits of a float64 as int64, of a float32 as int32."""
    kind, width = (types.int64, 64) if x == types.float64 else (types.int32, 32)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(width))

    return kind(x), generate


@intrinsic
def float64_of(context: Any, bits: Any) -> Any:
    """The float64 of these int64 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def float32_of(context: Any, bits: Any) -> Any:
    """The float32 of these int32 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def keep_alive(context: Any, array: Any) -> Any:
    """Keeps an array alive up to here. Numba frees one after its last use, and writing through an
    address that was taken from it is not a use."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_dummy_value()

    return types.void(array), generate


def array(x: torch.Tensor) -> "np.ndarray[Any, Any]":
    """A contiguous tensor's memory, or that of a contiguous copy. Below autograd a parameter still
    says that it wants a gradient, and would refuse `numpy()`."""
    return x.detach().contiguous().numpy()
