"""Checks that the floating-point arithmetic of this process is the one that canonical definitions
need.

Definitions need IEEE-754 arithmetic: rounding to nearest even, denormals kept, and no fused
multiply-add in place of a product and a sum. Processors provide it. Settings and compilers can
change it.

Not covered: a processor that computes wrong results at times (audits find it), and a process that
passes the check and changes its arithmetic afterwards.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numba import prange

from gensyn_ray.domain.errors import OperationError
from workloads.numerics.kernels.primitives.compilation import config, kernel, use_threads

_TINY32, _TINY64 = 2.0**-149, 2.0**-1074
_TORN = (1.0 + 2.0**-27, 1.0 + 2.0**-27, -(1.0 + 2.0**-26))
"""a * b + c is 0 with two roundings and 2^-54 with one."""
TORCH_GRAIN = 1 << 15
"""Elements per thread: torch starts no second thread for fewer elements."""
_TINIES = np.full(16 * config.NUMBA_NUM_THREADS, _TINY32, dtype=np.float32)
_ONES = np.ones_like(_TINIES)


class UnfitMachine(OperationError):
    """This process breaks a rule that canonical arithmetic needs. The message names the rule."""


def check() -> None:
    """Raises `UnfitMachine` if a rule does not hold. The first call takes a few milliseconds, later
    calls microseconds."""
    use_threads()
    _check_once()
    if not _keeps_denormals():
        raise UnfitMachine(
            "denormal numbers are flushed to zero: call torch.set_flush_denormal(False), and load "
            "no library that was built with -ffast-math"
        )
    if not _threads_keep_denormals():
        raise UnfitMachine(
            "denormal numbers are flushed to zero in some threads, which inherited the setting "
            "from their parent thread: start a new process, and call "
            "torch.set_flush_denormal(False) in it before any parallel code runs"
        )


@cache
def _check_once() -> None:
    for rule, holds in RULES.items():
        if not holds():
            raise UnfitMachine(
                f"canonical arithmetic needs {rule}, which does not hold in this process. Start a "
                "new process without libraries or settings that change floating-point arithmetic. "
                "If the rule does not hold there either, this machine can serve pinned jobs only"
            )


def _keeps_denormals() -> bool:
    """Whether this thread keeps denormals, in float32 and float64."""
    narrow = torch.tensor([_TINY32], dtype=torch.float32) * 1.0
    wide = torch.tensor([_TINY64], dtype=torch.float64) * 1.0
    return float(narrow) == _TINY32 and float(wide) == _TINY64


@kernel
def _products(a, b, out):
    for i in prange(out.size):
        out[i] = a[i] * b[i]


def _threads_keep_denormals() -> bool:
    """Whether every thread that runs kernels keeps denormals. These are also torch's threads if
    both use one OpenMP runtime; `RULES` checks torch's threads once."""
    out = np.zeros_like(_TINIES)
    _products(_TINIES, _ONES, out)
    return bool(out.all())


def _torch_threads_keep_denormals() -> bool:
    """Whether every thread of torch keeps denormals. The tensor has enough elements for all
    threads."""
    tiny = torch.full((TORCH_GRAIN * torch.get_num_threads(),), _TINY32)
    return bool((tiny * 1.0).all())


@kernel
def _torn_sum(a, b, c, out):
    for i in prange(out.size):
        out[i] = a[i] * b[i] + c[i]


def _kernels_round_twice() -> bool:
    """Whether compiled kernels round a product before they add to it."""
    a, b, c = (np.full(16, value) for value in _TORN)
    out = np.empty(16)
    _torn_sum(a, b, c, out)
    return not out.any()


def _torch_rounds_twice() -> bool:
    """Whether torch rounds a product before it adds to it."""
    a, b, c = (torch.full((16,), value, dtype=torch.float64) for value in _TORN)
    return not bool((a * b + c).any())


def _rounds_to_even() -> bool:
    x = torch.tensor([1.0, 1.0 + 2.0**-23], dtype=torch.float32)
    return (x + 2.0**-24).tolist() == [1.0, 1.0 + 2.0**-22]


def _divides_and_multiplies_rightly() -> bool:
    """Whether float32 results equal float64 results rounded to float32. The 53 bits of float64 make
    the second rounding harmless."""
    x = torch.arange(1, 4097, dtype=torch.float32) * 1.000123
    y = torch.arange(4097, 1, -1, dtype=torch.float32) * 0.999877
    wide = (x.to(torch.float64) / y.to(torch.float64)).to(torch.float32)
    product = (x.to(torch.float64) * y.to(torch.float64)).to(torch.float32)
    return torch.equal(x / y, wide) and torch.equal(x * y, product)


def _takes_roots_rightly() -> bool:
    numbers = np.arange(1, 4097, dtype=np.float64) * 1.000123
    roots = np.sqrt(numbers)
    return all(
        float(root) == math.sqrt(number) for root, number in zip(roots, numbers, strict=True)
    )


def _multiplies_integers_exactly() -> bool:
    a = torch.arange(64 * 64, dtype=torch.int64).reshape(64, 64) * 257 - 2**19
    exact = (a[:, :, None] * a[None, :, :]).sum(1)
    return torch.equal((a.double() @ a.double()).to(torch.int64), exact)


def _wraps_integers() -> bool:
    largest = torch.tensor([2**63 - 1])
    return int(largest + 1) == -(2**63)


RULES: dict[str, Callable[[], bool]] = {
    "denormal numbers in every thread of torch": _torch_threads_keep_denormals,
    "rounding to the nearest even number": _rounds_to_even,
    "correctly rounded float32 division and multiplication": _divides_and_multiplies_rightly,
    "correctly rounded square roots": _takes_roots_rightly,
    "compiled kernels that round a product before they add to it": _kernels_round_twice,
    "torch kernels that round a product before they add to it": _torch_rounds_twice,
    "float64 matrix products that are exact below 2^53": _multiplies_integers_exactly,
    "64-bit integers that wrap": _wraps_integers,
}
"""The rules that are checked once per process, by the words of the error message."""
