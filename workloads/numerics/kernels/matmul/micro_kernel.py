"""What kernels that multiply write in LLVM's language: registers of as many numbers as the
processor's widest ones hold, and how exact products become results.
"""

from typing import Any, cast

from llvmlite import ir
from numba.core.registry import cpu_target

from workloads.numerics.kernels.primitives.compilation import inlined


def _widest() -> tuple[int, str]:
    """int32 of the widest register that multiplies pairs of int16, and LLVM's name for that: empty
    where a processor has no such instruction."""
    features = cast(Any, cpu_target.target_context).codegen()._tm_features
    if "+avx512bw" in features:
        return 16, "llvm.x86.avx512.pmaddw.d.512"
    if "+avx2" in features:
        return 8, "llvm.x86.avx2.pmadd.wd"
    return 4, "llvm.x86.sse2.pmadd.wd" if "+sse2" in features else ""


LANES, MULTIPLY_ADD_NAME = _widest()
ROWS = 6
"""Of a left factor that are multiplied together: twelve registers of sums, two for each."""
INT64 = ir.IntType(64)
FLOAT32S = ir.VectorType(ir.FloatType(), LANES)
FLOAT64S = ir.VectorType(ir.DoubleType(), LANES)


def load(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    """What lies so many bytes after an address."""
    moved = builder.add(address, INT64(offset))
    return builder.load(builder.inttoptr(moved, kind.as_pointer()), align=4)


def store(builder: Any, value: Any, address: Any, align: int) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=align)


def broadcast(builder: Any, value: Any, lanes: int = LANES) -> Any:
    """A register that holds a value in every lane."""
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def epilogue(builder: Any, sums: list[Any], args: list[Any]) -> None:
    """Lines of LANES results, float32((C * unit * units + 0.0) * alpha + bias * beta), of exact
    products C, one register for each line.

    args: addresses of the lines' units, of the columns' units and of the bias; bytes from one
    line's bias to the next's; alpha, beta; the results' address, and bytes from one to the next."""
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
    """Whether all of the ROWS x LANES results from out[row, at] on exist."""
    return row + ROWS <= out.shape[0] and at + LANES <= out.shape[1]


@inlined
def output_address(out, edge, row, at):
    """Where they go, and bytes from one line to the next: float32 `out` (M, N), or, if some do not
    exist, `edge` (ROWS, LANES)."""
    if is_full_tile(out, row, at):
        return out.ctypes.data + 4 * (row * out.shape[1] + at), 4 * out.shape[1]
    return edge.ctypes.data, 4 * LANES


@inlined
def copy_edge(out, edge, row, at):
    """What of `edge` exists becomes part of `out`."""
    if not is_full_tile(out, row, at):
        rows, columns = min(ROWS, out.shape[0] - row), min(LANES, out.shape[1] - at)
        for i in range(rows):  # a slice's assignment compiles ten times as long: it checks shapes
            for j in range(columns):
                out[row + i, at + j] = edge[i, j]
