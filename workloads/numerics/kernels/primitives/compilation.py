"""Compilation of kernels: by numba, without fast-math, without contraction, with a cache on disk.

LLVM keeps the order of the operations. It contracts a product and a sum into a fused multiply-add
only where a flag allows it. A kernel that follows the order of its reference definition therefore
gives the same bits, vectorised or not. A loop over `prange` is divided among threads. Its
iterations are independent, and only integers are summed across threads.
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
    "InTreeCacheLocator",  # for kernels outside this package
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
"""Only loops over `prange` are parallel. Array expressions stay serial, which compiles faster."""

_njit: Any = numba.njit
kernel: Any = _njit(
    parallel=_ONLY_PRANGE, cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True
)
"""Decorator of a function that Python calls. Its loops over `prange` run on the threads that
`use_threads` sets."""
inlined: Any = _njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    inline="never",
    no_cfunc_wrapper=True,
    no_cpython_wrapper=True,
)
"""Decorator of a function that only kernels call. LLVM inlines and vectorises it."""

intrinsic: Any = extending.intrinsic(prefer_literal=True)
"""Decorator of a function that emits LLVM code. Literal arguments arrive as literal types."""


def use_threads() -> None:
    """Set the number of threads of kernels to the number of threads of torch in this process."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, config.NUMBA_NUM_THREADS))
    # Both share one OpenMP runtime. The start of numba's threads resets torch's number of threads
    # to the number of cores.
    torch.set_num_threads(threads)


# Called on import: a kernel that runs outside `canonical` then keeps torch's number of threads.
use_threads()


@intrinsic
def bits_of(context: Any, x: Any) -> Any:
    """The bits of a float64 as int64, or of a float32 as int32."""
    kind, width = (types.int64, 64) if x == types.float64 else (types.int32, 32)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(width))

    return kind(x), generate


@intrinsic
def float64_of(context: Any, bits: Any) -> Any:
    """The float64 that has the given int64 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def float32_of(context: Any, bits: Any) -> Any:
    """The float32 that has the given int32 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def keep_alive(context: Any, array: Any) -> Any:
    """Keep an array alive up to this call. Numba frees an array after its last use, and a write
    through the array's address does not count as a use."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_dummy_value()

    return types.void(array), generate


def array(x: torch.Tensor) -> "np.ndarray[Any, Any]":
    """A contiguous tensor as an array of the same shape and dtype that shares its memory. A tensor
    that is not contiguous is copied. The tensor is detached first, because `numpy()` refuses a
    tensor that requires a gradient."""
    return x.detach().contiguous().numpy()
