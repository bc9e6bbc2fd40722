"""Intel AMX from numba: 16 x 64 tiles of int8, multiplied into 16 x 16 tiles of int32.

Each function below becomes one instruction (Intel SDM, chapter "Intel AMX Instruction Set
Reference"; LLVM's `llvm.x86.t*` intrinsics). A tile is named by a literal number, 0 to 7. Addresses
are integers; alignment to 64 bytes makes loads fast. A row of a tile is 64 bytes.

The arithmetic is on integers and exact.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target

from workloads.numerics.kernels.primitives.compilation import intrinsic

TILE_BYTES = 1024
"""Bytes of one tile: 16 rows of 64 bytes."""
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18
_BYTE, _LONG = ir.IntType(8), ir.IntType(64)
_POINTER = _BYTE.as_pointer()


@cache
def available() -> bool:
    """Whether numba compiles for AMX on this processor and Linux permits this process to use
    AMX."""
    target: Any = cpu_target.target_context
    features = target.codegen()._tm_features
    if "+amx-int8" not in features:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) == 0


def configuration() -> "np.ndarray[Any, Any]":
    """The tile configuration in which every tile has 16 rows of 64 bytes: uint8 (64,)."""
    layout = np.zeros(64, dtype=np.uint8)
    layout[0] = 1
    layout[16:32].view(np.uint16)[:] = 64
    layout[48:56] = 16
    return layout


def _call(builder: Any, name: str, kinds: list[Any], arguments: list[Any]) -> None:
    signature = ir.FunctionType(ir.VoidType(), kinds)
    builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


@intrinsic
def configure(context: Any, address: Any) -> Any:
    """Load the tile configuration at an address. Each thread calls it before its first tile
    instruction, and calls `release` after the last."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "llvm.x86.ldtilecfg", [_POINTER], [builder.inttoptr(args[0], _POINTER)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def release(context: Any) -> Any:
    """Release the tile configuration of this thread."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "llvm.x86.tilerelease", [], [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def zero(context: Any, tile: Any) -> Any:
    """Set a tile to 0."""
    number = _BYTE(tile.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "llvm.x86.tilezero", [_BYTE], [number])
        return context.get_dummy_value()

    return types.void(tile), generate


@intrinsic
def load(context: Any, tile: Any, address: Any) -> Any:
    """Load a tile from 16 consecutive rows of 64 bytes."""
    number = _BYTE(tile.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arguments = [number, builder.inttoptr(args[1], _POINTER), _LONG(64)]
        _call(builder, "llvm.x86.tileloadd64", [_BYTE, _POINTER, _LONG], arguments)
        return context.get_dummy_value()

    return types.void(tile, types.int64), generate


@intrinsic
def store(context: Any, tile: Any, address: Any) -> Any:
    """Store a tile as 16 consecutive rows of 64 bytes."""
    number = _BYTE(tile.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arguments = [number, builder.inttoptr(args[1], _POINTER), _LONG(64)]
        _call(builder, "llvm.x86.tilestored64", [_BYTE, _POINTER, _LONG], arguments)
        return context.get_dummy_value()

    return types.void(tile, types.int64), generate


@intrinsic
def multiply(context: Any, total: Any, a: Any, b: Any) -> Any:
    """total[m, n] += sum over k and j < 4 of a[m, 4 k + j] * b[k, 4 n + j]: signed bytes, summed in
    int32."""
    numbers = [_BYTE(one.literal_value) for one in (total, a, b)]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "llvm.x86.tdpbssd", [_BYTE] * 3, numbers)
        return context.get_dummy_value()

    return types.void(total, a, b), generate
