"""LLVM code that the matrix kernels share: registers of the processor's full width, and the step
from exact products to results."""

from typing import Any, cast

from llvmlite import ir
from numba.core.registry import cpu_target

from workloads.numerics.kernels.primitives.compilation import inlined


def _widest() -> tuple[int, str]:
    """Number of int32 lanes of the widest register that multiplies int16 pairs, and LLVM's name of
    the instruction. The name is empty if the processor has no such instruction."""
    features = cast(Any, cpu_target.target_context).codegen()._tm_features
    if "+avx512bw" in features:
        return 16, "llvm.x86.avx512.pmaddw.d.512"
    if "+avx2" in features:
        return 8, "llvm.x86.avx2.pmadd.wd"
    return 4, "llvm.x86.sse2.pmadd.wd" if "+sse2" in features else ""


LANES, MULTIPLY_ADD_NAME = _widest()
"""LANES: numbers per vector. MULTIPLY_ADD_NAME: LLVM's name of the instruction that multiplies
int16 pairs, or an empty string."""
ROWS = 6
"""Rows of the left factor that are multiplied together. Their sums fill twelve registers, two per
row."""
INT64 = ir.IntType(64)
FLOAT32S = ir.VectorType(ir.FloatType(), LANES)
FLOAT64S = ir.VectorType(ir.DoubleType(), LANES)


def load(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    """The value of type `kind` at address + `offset` bytes, aligned to 4 bytes."""
    moved = builder.add(address, INT64(offset))
    return builder.load(builder.inttoptr(moved, kind.as_pointer()), align=4)


def store(builder: Any, value: Any, address: Any, align: int) -> None:
    """Store a vector at an address with the given alignment in bytes."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=align)


def broadcast(builder: Any, value: Any, lanes: int = LANES) -> Any:
    """A vector with `value` in every lane."""
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def epilogue(builder: Any, sums: list[Any], args: list[Any]) -> None:
    """Store rows of LANES results, float32((C * unit * units + 0.0) * alpha + bias * beta). `sums`:
    exact products C, one float64 register per row.

    `args`: address of the rows' units; address of the columns' units; address of the bias; bytes
    from row to row of the bias; alpha; beta; address of the results; bytes from row to row of the
    results.
    """
    units, others, bias, bias_stride, alpha, beta, target, stride = args
    nothing, columns = ir.Constant(FLOAT64S, None), load(builder, others, FLOAT64S)
    by, share = broadcast(builder, alpha), broadcast(builder, beta)
    for row, total in enumerate(sums):
        unit = broadcast(builder, load(builder, units, ir.DoubleType(), 8 * row))
        value = builder.fmul(total, builder.fmul(unit, columns))
        value = builder.fmul(builder.fadd(value, nothing), by)
        added = builder.fmul(builder.fpext(load(builder, bias, FLOAT32S), FLOAT64S), share)
        store(builder, builder.fptrunc(builder.fadd(value, added), FLOAT32S), target, 4)
        bias, target = builder.add(bias, bias_stride), builder.add(target, stride)


@inlined
def is_full_tile(out, row, at):
    """Whether the tile of ROWS x LANES results that begins at out[row, at] lies within `out`."""
    return row + ROWS <= out.shape[0] and at + LANES <= out.shape[1]


@inlined
def output_address(out, edge, row, at):
    """Address of the tile's results, and bytes from row to row. A tile within `out`, float32 (M,
    N), goes there. A tile that exceeds it goes to `edge`, float32 (ROWS, LANES)."""
    if is_full_tile(out, row, at):
        return out.ctypes.data + 4 * (row * out.shape[1] + at), 4 * out.shape[1]
    return edge.ctypes.data, 4 * LANES


@inlined
def copy_edge(out, edge, row, at):
    """Copy the part of `edge` that lies within `out` to `out`. Does nothing for a full tile."""
    if not is_full_tile(out, row, at):
        rows, columns = min(ROWS, out.shape[0] - row), min(LANES, out.shape[1] - at)
        for i in range(rows):  # a slice assignment checks shapes and compiles ten times as long
            for j in range(columns):
                out[row + i, at + j] = edge[i, j]
