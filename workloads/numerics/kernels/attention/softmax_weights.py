"""One query's part of attention, whichever route multiplies: the weights of the values, their sum,
and the exact inner product that the gradient of the scores needs."""

import math

import numpy as np

from workloads.numerics.kernels.primitives import functions as f
from workloads.numerics.kernels.primitives.compilation import inlined
from workloads.numerics.kernels.primitives.grid import exponent_of, larger_magnitude, power, snap
from workloads.numerics.kernels.primitives.softmax import exponentials, row_maximum


@inlined
def visible_keys(row, keys, causal):
    """How many keys, from the first, a query may see."""
    return min(row + 1, keys) if causal else keys


@inlined
def softmax_weights(line, factor, mask, has_mask, bits, t):
    """t of one query from its scores, both float64. Returns the sum of t and the maximum.

    Not in place: a loop that may overwrite what it still has to read is not vectorised."""
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
    """Log of the sum of exp(score), float32; -inf where nothing was seen."""
    return np.float32(f.log(total) + largest)


@inlined
def exact_dot(gradient, line, bits):
    """Exact sum of gradient * line, bounded by the product of their largest magnitudes; NaN if
    either is not finite."""
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
    """Gradient of one query's scores, float32: t / total * (towards - here) * factor."""
    divisor = total if total else 1.0  # nothing seen: t is 0
    for k in range(t.size):
        slope[k] = np.float32(t[k] / divisor * (towards[k] - here) * factor)


@inlined
def divide_row(gradient, total, divided):
    """gradient / total, float32; 0 where nothing was seen."""
    for j in range(gradient.size):
        divided[j] = np.float32(np.float64(gradient[j]) / total) if total else 0.0
