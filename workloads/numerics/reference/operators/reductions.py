"""Reference definitions of sums, means, variances and norms. Sums are exact on a grid. The result
is rounded once."""

from collections.abc import Sequence
from typing import Any

import torch

from workloads.numerics.reference.primitives import functions
from workloads.numerics.reference.primitives.grid import exact_sum, exponents, power, snap
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor


def dimensions(x: Tensor, dim: int | Sequence[int] | None) -> list[int]:
    """The dimensions as sorted, non-negative numbers. None or an empty list means all dimensions,
    as in torch."""
    if isinstance(dim, int):
        dim = [dim]
    return sorted({d % x.dim() for d in dim}) if dim and x.dim() else list(range(x.dim()))


def shaped(total: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    """A total with dimensions of size 1, or without them unless `keepdim`."""
    return total if keepdim or not dims else total.squeeze(dims)


def count_of(x: Tensor, dims: list[int]) -> int:
    """Number of elements in the dimensions."""
    count = 1
    for d in dims:
        count *= x.shape[d]
    return count


def _some_dimensions(s: Source) -> tuple[Any, ...]:
    shape = s.shape(1)
    dims = sorted({s.whole(0, len(shape) - 1) for _ in range(s.whole(1, 2))})
    return s.tensor(shape), dims, s.choose(False, True)


def _all_dimensions(s: Source) -> tuple[Tensor]:
    return (s.tensor(s.shape()),)


def _spread(s: Source) -> tuple[Any, ...]:
    shape = s.shape(1)
    kwargs = {"correction": s.choose(0, 1), "keepdim": s.choose(False, True)}
    return s.tensor(shape), [s.whole(0, len(shape) - 1)], kwargs


@define(aten.sum.dim_IntList, example=_some_dimensions)
def sum_over(
    x: Tensor,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Sum over `dim`, in the dtype of x or `dtype`. Raises `NotFinite`."""
    if not x.is_floating_point() and (dtype is None or not dtype.is_floating_point):
        return aten.sum.dim_IntList(x, dim, keepdim, dtype=dtype)
    kind = dtype or x.dtype
    dims = dimensions(x, dim)
    return shaped(exact_sum(x.to(kind), dims), dims, keepdim).to(kind)


@define(aten.sum.default, example=_all_dimensions)
def sum_all(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Sum of all elements. Raises `NotFinite`."""
    return sum_over(x, None, dtype=dtype)


@define(aten.mean.dim, example=_some_dimensions)
def mean_over(
    x: Tensor,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Mean over `dim`, in the dtype of x or `dtype`. Raises `NotFinite`."""
    kind = dtype or x.dtype
    dims = dimensions(x, dim)
    return shaped(exact_sum(x.to(kind), dims) / count_of(x, dims), dims, keepdim).to(kind)


@define(aten.mean.default, example=_all_dimensions)
def mean_all(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Mean of all elements. Raises `NotFinite`."""
    return mean_over(x, None, dtype=dtype)


def moments(x: Tensor, dims: list[int]) -> tuple[Tensor, Tensor]:
    """Mean, and sum of squared distances from the mean, over `dims` (kept as size 1), float64.
    Raises `NotFinite`.

    A distance is below twice the largest magnitude. This bound replaces a second search for the
    largest value.
    """
    exponent = exponents(x, dims)
    mean = exact_sum(x, dims, exponent) / count_of(x, dims)
    distance = x.to(torch.float64) - mean
    return mean, exact_sum(distance * distance, dims, 2 * exponent + 2)


@define(aten.var.correction, example=_spread)
def var(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Tensor:
    """Variance over `dim`, in the dtype of x: squared distances / (count - correction). Raises
    `NotFinite`."""
    dims = dimensions(x, dim)
    _, squares = moments(x, dims)
    freedom = max(count_of(x, dims) - (1 if correction is None else correction), 0)
    return shaped(squares / freedom, dims, keepdim).to(x.dtype)


@define(aten.std.correction, example=_spread)
def std(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The square root of `var`, in the dtype of x. Raises `NotFinite`."""
    return functions.root(var(x.to(torch.float64), *args, **kwargs)).to(x.dtype)


@define(aten.linalg_vector_norm.default, example=lambda s: (s.tensor(s.shape()), 2))
def vector_norm(
    x: Tensor,
    order: float = 2,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The norm of order 1, 2 or infinity over `dim`. Raises `ValueError` for other orders, and
    `NotFinite` for orders 1 and 2."""
    dims = dimensions(x, dim)
    kind = dtype or x.dtype
    if order == float("inf"):
        return x.abs().amax(dims, keepdim=keepdim).to(kind)
    if order == 1:
        return shaped(exact_sum(x.abs(), dims), dims, keepdim).to(kind)
    if order != 2:
        raise ValueError(f"a canonical norm is of order 1, 2 or infinity, not {order}")
    wide = x.to(torch.float64)
    squares = exact_sum(wide * wide, dims, 2 * exponents(x, dims))
    return shaped(functions.root(squares), dims, keepdim).to(kind)


@define(aten._foreach_norm.Scalar, example=lambda s: ([s.tensor(s.shape()) for _ in range(2)],))
def foreach_norm(
    tensors: Sequence[Tensor], order: float = 2, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """`vector_norm` of each tensor."""
    return [vector_norm(one, order, dtype=dtype) for one in tensors]


@define(
    aten.cumsum.default, example=lambda s: ((x := s.tensor(s.shape(1))), s.whole(0, x.dim() - 1))
)
def cumsum(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Cumulative sums along `dim`, each exact on one grid and rounded once. Raises `NotFinite`."""
    if not x.is_floating_point():
        return aten.cumsum.default(x, dim, dtype=dtype)
    kind = dtype or x.dtype
    exponent = exponents(x, [dim % x.dim()])
    bits = 50 - max(x.shape[dim] - 1, 0).bit_length()
    return (snap(x, exponent, bits).cumsum(dim).to(torch.float64) * power(exponent - bits)).to(kind)


@define(aten.amax.default, example=_some_dimensions)
def amax(x: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """The maximum over `dim`. A zero is +0.0."""
    return aten.amax.default(x, dim, keepdim) + 0.0  # the sign of a zero depends on the order


@define(aten.amin.default, example=_some_dimensions)
def amin(x: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """The minimum over `dim`. A zero is +0.0."""
    return aten.amin.default(x, dim, keepdim) + 0.0


@define(aten.aminmax.default, example=lambda s: (s.tensor((s.whole(1, 9), 3)),))
def extremes(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The minimum and the maximum over `dim`. A zero is +0.0."""
    low, high = aten.aminmax.default(x, dim=dim, keepdim=keepdim)
    return (low + 0.0, high + 0.0) if x.is_floating_point() else (low, high)


@define(aten.max.default, example=lambda s: (s.tensor((s.whole(1, 9), 3)),))
def largest(x: Tensor) -> Tensor:
    """The maximum of all elements. A zero is +0.0."""
    return aten.max.default(x) + 0.0 if x.is_floating_point() else aten.max.default(x)


@define(aten.min.default, example=lambda s: (s.tensor((s.whole(1, 9), 3)),))
def smallest(x: Tensor) -> Tensor:
    """The minimum of all elements. A zero is +0.0."""
    return aten.min.default(x) + 0.0 if x.is_floating_point() else aten.min.default(x)
