"""The routes of a matrix product: AMX tiles of int8, pairs of int16 (13 bits only), float64 in the
project's kernel, float64 in the BLAS library. The fastest route of this machine runs.

All routes multiply the same integers exactly. The choice of a route therefore does not change a bit
of the result.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workloads.numerics.kernels.matmul import amx, float64_panels, int8_slices, int16_pairs
from workloads.numerics.kernels.matmul.int8_tiles import multiply_tiles
from workloads.numerics.kernels.matmul.micro_kernel import LANES, ROWS
from workloads.numerics.kernels.primitives import grid
from workloads.numerics.kernels.primitives.compilation import array
from workloads.numerics.kernels.primitives.scratch import scratch
from workloads.numerics.reference.primitives.grid import NotFinite

Tensor = torch.Tensor
Array = np.ndarray[Any, Any]
CACHE_BYTES = 3 << 18
"""Bytes of slices of the right factor that stay in a core's cache while the left factor is read."""
PANEL_BYTES = 3 << 16
"""Bytes of rows of the left factor, as int16 pairs or float64, that stay in a core's cache."""
SHARED_BYTES = 4 << 20
"""Bytes of panels of the right factor, as digits or float64, that stay in the cache that the cores
share."""
DEEPEST = 1 << 17
"""Largest K of the int8 route: three products of digits up to 64 in magnitude, per element, add up
in int32."""
CACHED_NUMBERS = 1 << 21
"""float64 numbers in a block of rows of the left factor and its results."""
CONFIGURATION = amx.configuration()
"""The AMX tile configuration of `amx.configure`, uint8 (64,)."""


def _slice_factor(x: Tensor, bits: int, right: bool) -> tuple[Array, Array]:
    """Tiles and units of the rows of x, (n, K) float32 of any strides.

    Tiles: int8 (panels, K tiles, slices, 1024); units: float64 (panels * 16,). Raises `NotFinite`.
    """
    n, depth = x.shape
    panels, tiles, count = -(-n // 16), max(1, -(-depth // 64)), int8_slices.SLICES[bits]
    shape = (panels, tiles, count, amx.TILE_BYTES)
    cut = scratch("right" if right else "left", shape, np.int8)
    units = np.ones(panels * 16, dtype=np.float64)
    if _lies_in_columns(x):
        scales = np.ones(panels * 16, dtype=np.float32)
        columns = array(x.t())
        broken = grid.column_scales(columns, bits, scales, units)
        int8_slices.split_columns(columns, scales, count, right, cut)
    else:
        broken = int8_slices.split_rows(array(x), count, bits, right, cut, units)
    _refuse(broken, x)
    return cut, units


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """The product a (M, K) x b (K, N) * alpha + bias * beta.

    `a`, `b`: float32 of any strides. `bias`: float32 with 1 row or M rows, padded with zeros to
    whole panels of rows and columns. `bits`: magnitude bits of each factor, 20 or 13.
    """

    a: Tensor
    b: Tensor
    bias: Array
    alpha: float
    beta: float
    bits: int

    @property
    def size(self) -> tuple[int, int, int]:
        """(M, K, N)."""
        return self.a.shape[0], self.a.shape[1], self.b.shape[1]


def _by_int8_tiles(gemm: Gemm) -> Tensor:
    """The route of int8 slices on AMX tiles: float32 (M, N). Raises `NotFinite`."""
    m, _, n = gemm.size
    left, left_units = _slice_factor(gemm.a, gemm.bits, right=False)
    right, right_units = _slice_factor(gemm.b.t(), gemm.bits, right=True)
    out = torch.empty((m, n), dtype=torch.float32)
    step = max(1, CACHE_BYTES // (right.shape[1] * right.shape[2] * amx.TILE_BYTES))
    for first in range(0, right.shape[0], step):
        multiply_tiles(
            left,
            right[first : first + step],
            left_units,
            right_units,
            first,
            gemm.bias,
            gemm.alpha,
            gemm.beta,
            CONFIGURATION,
            array(out),
        )
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Factor:
    """The vectors of a factor and their grids.

    `matrix`: float32 (n, K), or (K, n) if `in_columns`. `scales`: float32; `units`: float64. Scales
    and units are padded with ones to whole panels.
    """

    matrix: Array
    in_columns: bool
    scales: Array
    units: Array


def _factor(x: Tensor, bits: int, width: int = 1) -> _Factor:
    """The rows of x, (n, K) float32 of any strides, as a `_Factor` with panels of `width` vectors.
    Raises `NotFinite`."""
    size = -(-x.shape[0] // width) * width
    scales, units = np.ones(size, dtype=np.float32), np.ones(size, dtype=np.float64)
    in_columns = _lies_in_columns(x)
    matrix = array(x.t() if in_columns else x)
    measure = grid.column_scales if in_columns else grid.row_scales
    _refuse(measure(matrix, bits, scales, units), x)
    return _Factor(matrix=matrix, in_columns=in_columns, scales=scales, units=units)


def _pair_factor(x: Tensor, name: str, is_left: bool) -> tuple[Array, Array]:
    """The int16 pairs and units of the rows of x, (n, K) float32 of any strides.

    Pairs: int32 (n, ceil(K / 2)) for the left factor (`is_left`), else (ceil(K / 2), n). Units:
    float64, padded to whole panels. Raises `NotFinite`.
    """
    (n, depth), width = x.shape, ROWS if is_left else LANES
    count, units = -(-depth // 2), np.ones(-(-n // width) * width, dtype=np.float64)
    in_columns = _lies_in_columns(x)
    shape = (count, n) if in_columns else (n, count)
    # The kernel reads whole panels: up to ROWS rows after the last row.
    spare = 4 * ROWS * count
    words = scratch(name, shape, np.int32, spare=spare)
    if in_columns:
        scales = np.empty(n, dtype=np.float32)
        broken = grid.column_scales(array(x.t()), int16_pairs.BITS, scales, units)
        int16_pairs.snap_columns(array(x.t()), scales, words)
    else:
        broken = int16_pairs.snap_rows(array(x), words.view(np.int16), units)
    _refuse(broken, x)
    if in_columns == is_left:
        turned = scratch(f"{name} turned", shape[::-1], np.int32, spare=spare)
        int16_pairs.transpose(words, turned)
        words = turned
    return words, units


def _by_int16_pairs(gemm: Gemm) -> Tensor:
    """The route of int16 pairs, for 13 bits: float32 (M, N). Raises `NotFinite`."""
    m, _, n = gemm.size
    left, left_units = _pair_factor(gemm.a, "left", is_left=True)
    words, right_units = _pair_factor(gemm.b.t(), "right", is_left=False)
    panels = -(-n // LANES)
    right = scratch("panels", (panels, len(words), 2, LANES), np.int32)
    int16_pairs.pack_digits(words, right)
    out = torch.empty((m, n), dtype=torch.float32)
    step, (_, several) = (
        max(1, SHARED_BYTES // right[0].nbytes),
        _partition(m, ROWS * left[0].nbytes),
    )
    for first in range(0, panels, step):
        int16_pairs.multiply_panels(
            left,
            right[first : first + step],
            several,
            left_units,
            right_units,
            first,
            gemm.bias,
            gemm.alpha,
            gemm.beta,
            array(out),
        )
    return out


def _by_float64_panels(gemm: Gemm) -> Tensor:
    """The route of float64 in the project's kernel: float32 (M, N). Raises `NotFinite`."""
    m, depth, n = gemm.size
    left, right = (
        _factor(gemm.a, gemm.bits, ROWS),
        _factor(gemm.b.t(), gemm.bits, float64_panels.COLUMNS),
    )
    out = torch.empty((m, n), dtype=torch.float32)
    panels, step = (
        -(-n // float64_panels.COLUMNS),
        max(1, SHARED_BYTES // (8 * float64_panels.COLUMNS * depth)),
    )
    packed_rows = scratch(
        "packed_rows", (*_partition(m, 8 * ROWS * depth), depth, ROWS), np.float64
    )
    for first in range(0, panels, step):
        shape = (min(step, panels - first), depth, float64_panels.COLUMNS)
        packed = scratch("panels", shape, np.float64)
        float64_panels.pack_panels(right.matrix, right.in_columns, first, right.scales, packed)
        float64_panels.multiply_panels(
            left.matrix,
            left.in_columns,
            left.scales,
            left.units,
            packed_rows,
            packed,
            right.units,
            first,
            gemm.bias,
            gemm.alpha,
            gemm.beta,
            array(out),
        )
    return out


def _partition(m: int, size: int) -> tuple[int, int]:
    """The number of threads, and the number of panels of ROWS rows that a thread takes at a time.

    `size`: bytes of one panel of the left factor. The panels that a thread takes fit in a core's
    cache, and all threads have about the same number of panels.
    """
    panels, threads = -(-m // ROWS), torch.get_num_threads()
    rounds = -(-panels // (threads * max(1, PANEL_BYTES // size)))
    return threads, -(-panels // (threads * rounds))


def _snap(x: Tensor, bits: int, name: str) -> tuple[Tensor, Array]:
    """The integers (as float64) and units of the rows of x, (n, K) float32. Raises `NotFinite`."""
    factor = _factor(x, bits)
    snapped = scratch(name, factor.matrix.shape, np.float64)
    whole = torch.from_numpy(snapped)
    if factor.in_columns:
        float64_panels.snap_columns(factor.matrix, factor.scales, snapped)
        return whole.t(), factor.units
    float64_panels.snap_rows(factor.matrix, factor.scales, snapped)
    return whole, factor.units


def _by_library(gemm: Gemm) -> Tensor:
    """The route of float64 in the BLAS library: float32 (M, N). Raises `NotFinite`.

    The product runs in blocks of rows, so that the snapped factor and the sums stay in cache.
    """
    m, depth, n = gemm.size
    right, right_units = _snap(gemm.b.t(), gemm.bits, "right")
    step = m if _lies_in_columns(gemm.a) else max(64, CACHED_NUMBERS // (depth + n))
    out = torch.empty((m, n), dtype=torch.float32)
    for first in range(0, m, step):
        rows = slice(first, min(first + step, m))
        left, left_units = _snap(gemm.a[rows], gemm.bits, "left")
        total = _multiply(left, right.t(), gemm.bits)
        bias = gemm.bias[rows] if len(gemm.bias) > 1 else gemm.bias
        float64_panels.scale_and_round(
            array(total), left_units, right_units, bias, gemm.alpha, gemm.beta, array(out[rows])
        )
    return out


def _multiply(left: Tensor, right: Tensor, bits: int) -> Tensor:
    """The exact product of integers up to 2^bits in magnitude, as float64 (M, N)."""
    chunk = 1 << (53 - 2 * bits)
    if left.shape[1] <= chunk:
        total = scratch("total", (left.shape[0], right.shape[1]), np.float64)
        return torch.mm(left, right, out=torch.from_numpy(total))
    parts = zip(left.split(chunk, 1), right.split(chunk, 0), strict=True)
    exact = sum(torch.mm(one, other).to(torch.int64) for one, other in parts)
    return torch.as_tensor(exact).to(torch.float64)


def _lies_in_columns(x: Tensor) -> bool:
    """Whether x (n, K) is the transpose of a contiguous matrix (K, n)."""
    return x.shape[0] > 1 and x.stride(0) == 1 and x.stride(1) == x.shape[0]


def _refuse(broken: int, x: Tensor) -> None:
    """Raises `NotFinite` if `broken` vectors, at least one, are not finite."""
    if broken:
        raise NotFinite(f"a factor of shape {tuple(x.shape)} holds NaN or infinity")


_fastest: dict[tuple[int, ...], Callable[[Gemm], Tensor]] = {}


def run_fastest(gemm: Gemm) -> Tensor:
    """The product by the fastest route for its size: float32 (M, N). Raises `NotFinite`.

    The first product of each size, in powers of two, runs and measures every route.
    """
    routes = available_routes(gemm)
    if len(routes) == 1:
        return routes[0](gemm)
    key = (*(size.bit_length() for size in gemm.size), gemm.bits, torch.get_num_threads())
    route = _fastest.get(key)
    # A key covers a range of sizes, and a route's limit on K may lie within the range.
    if route is not None and route in routes:
        return route(gemm)
    seconds: dict[Callable[[Gemm], Tensor], float] = {}
    for candidate in routes:
        candidate(gemm)  # the first call compiles, allocates and warms caches
        start = time.perf_counter()
        result = candidate(gemm)
        seconds[candidate] = time.perf_counter() - start
    _fastest[key] = min(seconds, key=seconds.__getitem__)
    return result


def available_routes(gemm: Gemm) -> list[Callable[[Gemm], Tensor]]:
    """The routes that this machine has for a product of this size and precision."""
    found = [_by_library]
    if gemm.size[1] <= 1 << (53 - 2 * gemm.bits):
        found.append(_by_float64_panels)
        if gemm.bits == int16_pairs.BITS and gemm.size[1] <= 2 * int16_pairs.LONGEST:
            found.append(_by_int16_pairs)
    if amx.available() and gemm.size[1] <= DEEPEST:
        found.append(_by_int8_tiles)
    return found
