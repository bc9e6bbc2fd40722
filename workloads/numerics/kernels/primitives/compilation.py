"""How kernels are compiled: by numba, without fast-math and without contraction, into a cache.

LLVM keeps the order of operations that it is given, and contracts no multiply-add unless it is
allowed to. A kernel that follows the order of its reference definition therefore gives the same
bits, vectorised or not. Loops over `prange` are divided among threads; their results are
independent, and their sums are sums of integers.
"""

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import extending, types
from numba.core import config as numba_config

from workloads.numerics.kernels.primitives.cache import SourceLocator

config: Any = numba_config
_LOCATORS = (
    f"{SourceLocator.__module__}.{SourceLocator.__name__}",
    "InTreeCacheLocator",  # of kernels that are not in this package
    "UserWideCacheLocator",
)
config.CACHE_LOCATOR_CLASSES = ",".join(_LOCATORS)

_ONLY_PRANGE = {
    "prange": True,
    **dict.fromkeys(
        ("comprehension", "fusion", "inplace_binop", "numpy", "reduction", "setitem", "stencil"),
        False,
    ),
}
"""Array expressions stay serial: a loop is parallel where it says so, and compiles faster."""

_njit: Any = numba.njit
kernel: Any = _njit(
    parallel=_ONLY_PRANGE, cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True
)
"""Decorates a function that Python calls: loops over `prange` run on `use_threads()` threads."""
inlined: Any = _njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    inline="never",
    no_cfunc_wrapper=True,
    no_cpython_wrapper=True,
)
"""Decorates a function that kernels call; Python cannot. LLVM inlines and vectorises it."""

intrinsic: Any = extending.intrinsic(prefer_literal=True)
"""Decorates a function that emits LLVM code. Literal arguments arrive as literal types."""


def use_threads() -> None:
    """Let kernels run on as many threads as torch has in this process."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, config.NUMBA_NUM_THREADS))
    # Both share one OpenMP runtime: starting numba's threads sets torch's number to all cores.
    torch.set_num_threads(threads)


use_threads()  # here, so that a kernel called outside `canonical` does not change torch's number


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
    """Keep an array alive up to this call. Numba frees an array after its last use, and a write
    through its address does not count as a use."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_dummy_value()

    return types.void(array), generate


def array(x: torch.Tensor) -> "np.ndarray[Any, Any]":
    """The memory of a contiguous tensor, or of a contiguous copy, as an array of the same shape and
    dtype. Detached, since `numpy()` refuses a parameter that requires a gradient."""
    return x.detach().contiguous().numpy()
