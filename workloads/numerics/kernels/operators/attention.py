"""The kernel of attention: the AMX route where the processor has AMX, else the float64 route."""

from typing import Any

import numpy as np
import torch

from workloads.numerics.kernels.attention import amx_route, float64_route
from workloads.numerics.kernels.matmul import amx
from workloads.numerics.kernels.matmul.int8_slices import SLICES
from workloads.numerics.kernels.matmul.routes import CONFIGURATION, DEEPEST
from workloads.numerics.kernels.primitives.compilation import array
from workloads.numerics.reference.operators import attention as reference
from workloads.numerics.reference.primitives.grid import NotFinite
from workloads.numerics.registry import kernel_for

aten = torch.ops.aten
Tensor = torch.Tensor
Array = np.ndarray[Any, Any]


def _heads(x: Tensor) -> Array:
    """x (batch, heads, T, width) as contiguous (batch * heads, T, width)."""
    return array(x).reshape(-1, *x.shape[2:])


def _mask(query: Tensor, key: Tensor, mask: Tensor | None) -> Array:
    """The mask as float32 (batch * heads, queries, keys). Without a mask, (batch * heads, queries,
    0)."""
    if mask is None:
        return np.zeros((query.shape[0] * query.shape[1], query.shape[2], 0), dtype=np.float32)
    shape = (*query.shape[:3], key.shape[2])
    return _heads(mask.to(torch.float32).expand(shape))


def _has_tiles(query: Tensor, key: Tensor) -> bool:
    """Whether AMX is available and no sum exceeds DEEPEST terms."""
    return amx.available() and max(*query.shape[2:], key.shape[2]) <= DEEPEST


def _fits(query: Tensor, key: Tensor, value: Tensor, *others: Tensor) -> bool:
    """Whether the kernels can take these tensors. The kernels check nothing.

    All tensors must be float32 and not empty; `others` must have the shape of `query`. The
    reference definition computes or refuses the other cases, such as keys with fewer heads than
    queries.
    """
    tensors = (query, key, value, *others)
    return (
        all(one.dtype == torch.float32 and one.numel() for one in tensors)
        and query.shape[:2] == key.shape[:2]
        and query.shape[3] == key.shape[3]
        and key.shape == value.shape
        and all(one.shape == query.shape for one in others)
    )


@kernel_for(aten._scaled_dot_product_flash_attention_for_cpu.default)
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
    bits: int,
) -> tuple[Tensor, Tensor]:
    """Output (batch, heads, queries, width) and log-sum-exp of the scores (batch, heads, queries),
    float32.

    Raises `NotFinite` if an argument or a score is infinite or NaN.
    """
    if not _fits(query, key, value):
        return reference.attention(
            query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale, bits=bits
        )
    batch, heads, queries, width = query.shape
    out = torch.empty((batch * heads, queries, width), dtype=torch.float32)
    logs = torch.empty((batch, heads, queries), dtype=torch.float32)
    inputs = [_heads(one) for one in (query, key, value)]
    mask, factor = _mask(query, key, attn_mask), reference.factor_of(query, scale)
    call: tuple[Any, ...] = (*inputs, mask, attn_mask is not None, is_causal, factor, bits)
    results: tuple[Any, ...] = (array(out), array(logs).reshape(-1, queries))
    if _has_tiles(query, key):
        broken = amx_route.forward(*call, SLICES[bits], CONFIGURATION, *results)
    else:
        broken = float64_route.forward(*call, *results)
    _refuse(broken, query)
    return reference.as_stock_lays_it_out(out.view(query.shape)), logs


@kernel_for(aten._scaled_dot_product_flash_attention_for_cpu_backward.default)
def attention_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
    bits: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value, float32 of their shapes. Raises `NotFinite`."""
    tensors = (grad_out, query, key, value, out)
    if not _fits(query, key, value, grad_out, out):
        return reference.attention_backward(
            *tensors, logsumexp, dropout_p, is_causal, attn_mask=attn_mask, scale=scale, bits=bits
        )
    gradients = [torch.empty(one.shape, dtype=torch.float32) for one in (query, key, value)]
    mask, factor = _mask(query, key, attn_mask), reference.factor_of(query, scale)
    inputs = [_heads(one) for one in tensors]
    call: tuple[Any, ...] = (*inputs, mask, attn_mask is not None, is_causal, factor, bits)
    results = [_heads(one) for one in gradients]
    if _has_tiles(query, key):
        broken = amx_route.backward(*call, SLICES[bits], CONFIGURATION, *results)
    else:
        broken = float64_route.backward(*call, *results)
    _refuse(broken, query)
    return gradients[0], gradients[1], gradients[2]


def _refuse(broken: int, query: Tensor) -> None:
    """Raises `NotFinite` if `broken` vectors, at least one, are not finite."""
    if broken:
        raise NotFinite(f"attention over queries of shape {tuple(query.shape)} met NaN or infinity")
