"""Reference definition of scaled dot-product attention, with the signature of the CPU's flash
operator.

Scores are an exact product, scaled in float64. t = exp(score - row maximum) is at most 1. The
weights of the values are t / S, with the exact sum S of t over the keys. The products with t use
one fixed grid, because 1 bounds t: the output is (t V) / S, and the gradient of V is t' (dO / S).
The gradient of the scores is rounded to float32. It is then snapped by rows for dQ and by columns
for dK.
"""

import math
from typing import Any

import torch

from workloads.numerics.reference.operators.elementwise import widened
from workloads.numerics.reference.operators.losses import weights
from workloads.numerics.reference.operators.products import exact_integers, product
from workloads.numerics.reference.primitives import functions
from workloads.numerics.reference.primitives.grid import exact_sum, exponents, power, snap
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor


def _heads(s: Source) -> tuple[Any, ...]:
    batch, heads, queries = s.whole(1, 2), s.whole(1, 3), s.whole(1, 40)
    width, causal = s.choose(1, 8, 32, 64), s.choose(True, False)
    keys = queries if causal else s.whole(1, 40)
    mask = None
    if not causal and s.choose(True, False):
        mask = torch.where(s.integers((batch, 1, queries, keys), 4) == 0, -torch.inf, 0.0)
        mask[..., 0] = 0.0
    q = s.tensor((batch, heads, queries, width), spread=2.0)
    k = s.tensor((batch, heads, keys, width), spread=2.0)
    v = s.tensor((batch, heads, keys, width), spread=2.0)
    return q, k, v, 0.0, causal, {"attn_mask": mask, "scale": s.choose(None, 0.3)}


def _head_gradients(s: Source) -> tuple[Any, ...]:
    q, k, v, dropped, causal, kwargs = _heads(s)
    out, largest = attention(q, k, v, dropped, causal, **kwargs, bits=20)
    return s.tensor(tuple(out.shape)), q, k, v, out, largest, dropped, causal, kwargs


def factor_of(query: Tensor, scale: float | None) -> float:
    """The multiplier of the scores. Without `scale`, 1 / sqrt(width), both operations correctly
    rounded."""
    return 1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale)


def _shares(
    q: Tensor,
    k: Tensor,
    causal: bool,
    mask: Tensor | None,
    scale: float | None,
    bits: int,
) -> tuple[Tensor, Tensor, Tensor, float]:
    """t (..., queries, keys), its row sums and the row maxima (..., queries, 1), all float64, and
    the multiplier of the scores."""
    factor = factor_of(q, scale)
    scores = product(q, k.transpose(-1, -2), bits) * factor
    if mask is not None:
        scores = scores + widened(mask)
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = torch.where(future, -torch.inf, scores)
    t, total, largest = weights(scores, -1)
    return t, total, largest, factor


def _times_shares(t: Tensor, other: Tensor, bits: int) -> Tensor:
    """t x other, float64. The grid of t is 2^-bits; `other` is snapped by columns."""
    fixed = torch.zeros((), dtype=torch.int64, device=t.device)
    columns = exponents(other, [other.dim() - 2])
    total = exact_integers(snap(t, fixed, bits), snap(other, columns, bits), bits)
    return total.to(torch.float64) * power(columns - bits) * 2.0**-bits + 0.0


@define(aten._scaled_dot_product_flash_attention_for_cpu.default, example=_heads, takes_bits=True)
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

    A query with every key masked gives zeros and -inf. `bits`: magnitude bits of the factors of
    each product. `dropout_p` is ignored: torch calls this operator only without dropout. Raises
    `NotFinite`.
    """
    t, total, largest, _ = _shares(query, key, is_causal, attn_mask, scale, bits)
    empty = largest == -torch.inf
    out = torch.where(empty, 0.0, _times_shares(t, value, bits) / total).to(torch.float32)
    log_sum = torch.where(empty, -torch.inf, functions.log(total) + largest)
    return as_stock_lays_it_out(out), log_sum.squeeze(-1).to(torch.float32)


def as_stock_lays_it_out(out: Tensor) -> Tensor:
    """The same values in the memory layout of the stock operator, (batch, queries, heads, width). A
    view then joins the heads into one width."""
    return out.transpose(1, 2).contiguous().transpose(1, 2)


@define(
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
    example=_head_gradients,
    takes_bits=True,
)
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
    t, total, largest, factor = _shares(query, key, is_causal, attn_mask, scale, bits)
    shared = torch.where(largest == -torch.inf, 0.0, widened(grad_out) / total).to(torch.float32)
    grad_value = _times_shares(t.transpose(-1, -2), shared, bits).to(torch.float32)
    width = [query.dim() - 1]
    bound = exponents(grad_out, width) + exponents(out, width)
    along = exact_sum(widened(grad_out) * widened(out), width, bound)
    towards = product(grad_out, value.transpose(-1, -2), bits)
    shares = torch.where(largest == -torch.inf, 0.0, t / total)
    grad_scores = (shares * (towards - along) * factor).to(torch.float32)
    grad_query = product(grad_scores, key, bits).to(torch.float32)
    grad_key = product(grad_scores.transpose(-1, -2), query, bits).to(torch.float32)
    return grad_query, grad_key, grad_value
