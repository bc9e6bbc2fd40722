"""The part of attention for one query that both routes share: the weights of the values, their sum,
and the inner product in the gradient of the scores."""

import math

import numpy as np

from workloads.numerics.kernels.primitives import functions as f
from workloads.numerics.kernels.primitives.compilation import inlined
from workloads.numerics.kernels.primitives.grid import exponent_of, larger_magnitude, power, snap
from workloads.numerics.kernels.primitives.softmax import exponentials, row_maximum


@inlined
def visible_keys(row, keys, causal):
    """Number of keys, from the first, that a query attends to."""
    return min(row + 1, keys) if causal else keys


@inlined
def softmax_weights(line, factor, mask, has_mask, bits, t):
    """Fill t, float64 (keys,), with exp(score - maximum) of one query. Returns the sum of t and the
    maximum.

    `line`: the unscaled scores, float64 (keys,), overwritten with the scaled and masked scores. `t`
    is a second array, because a loop that overwrites its own input does not vectorise.
    """
    for k in range(line.size):
        line[k] = line[k] * factor
    if has_mask:
        for k in range(line.size):
            line[k] = line[k] + np.float64(mask[k])
    largest = row_maximum(line)
    if largest == -math.inf:
        t[:] = 0.0
        return 0.0, largest
    return np.float64(exponentials(line, largest, power(bits - 1), t)) * power(1 - bits), largest


@inlined
def log_sum_exp(total, largest):
    """ln(total) + largest, the log of the sum of exp(score), as float32. -inf if all keys are
    masked."""
    return np.float32(f.log(total) + largest)


@inlined
def exact_dot(gradient, line, bits):
    """The exact sum of gradient * line, float64. NaN if either is not finite.

    The bound of the grid is the product of the largest magnitudes.
    """
    top_g, top_x = np.int32(0), np.int32(0)
    for k in range(line.size):
        top_g = larger_magnitude(top_g, gradient[k])
        top_x = larger_magnitude(top_x, line[k])
    if max(exponent_of(top_g), exponent_of(top_x)) > 128:
        return math.nan
    exponent = exponent_of(top_g) + exponent_of(top_x)
    scale = power(bits - exponent)
    total = np.int64(0)
    for k in range(line.size):
        total += snap(np.float64(gradient[k]) * np.float64(line[k]), scale)
    return np.float64(total) * power(exponent - bits)


@inlined
def score_gradient(t, total, towards, here, factor, slope):
    """Fill `slope`, float32 (keys,), with the gradient of one query's scores: t / total * (towards
    - here) * factor."""
    divisor = total if total else 1.0  # all keys masked: t is 0
    for k in range(t.size):
        slope[k] = np.float32(t[k] / divisor * (towards[k] - here) * factor)


@inlined
def divide_row(gradient, total, divided):
    """Fill `divided`, float32, with gradient / total, or with 0 if all keys are masked."""
    for j in range(gradient.size):
        divided[j] = np.float32(np.float64(gradient[j]) / total) if total else 0.0
