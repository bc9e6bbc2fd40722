"""Parameter updates as operators of the namespace `gensyn`, such as `gensyn::adamw_`. The canonical
mode computes and traces each update as one operator.

Every operation is one float32 rounding, in the order written here. Hyperparameters are rounded to
float32 once. Tensors of one list position have one shape. Parameters and state are updated in
place.
"""

from collections.abc import Sequence
from typing import Any

import torch

from workloads.numerics.reference.operators.elementwise import clamp
from workloads.numerics.reference.primitives import functions
from workloads.numerics.registry import Source, define, exact_stock

aten = torch.ops.aten
Tensor = torch.Tensor

_library = torch.library.Library("gensyn", "DEF")
_library.define(
    "adamw_(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, "
    "float beta1, float beta2, float eps, float decay, float step_size, float root_correction) "
    "-> ()"
)
_library.define(
    "sgd_(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] buffers, float lr, float momentum, "
    "float dampening, float weight_decay, bool nesterov) -> ()"
)
_library.define(
    "lion_(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] exp_avgs, float lr, float beta1, "
    "float beta2, float decay) -> ()"
)
ops: Any = torch.ops.gensyn


def rounded(value: float) -> Tensor:
    """A hyperparameter as a float32 tensor without dimensions."""
    return torch.tensor(value, dtype=torch.float32)


def _lists(s: Source, count: int) -> tuple[list[Tensor], ...]:
    shapes = [s.shape(0, 2) for _ in range(s.whole(0, 3))]
    lists = [[s.tensor(shape, spread=2.0) for shape in shapes] for _ in range(count)]
    return tuple([one.clone().contiguous() for one in tensors] for tensors in lists)


def _adam(s: Source) -> tuple[Any, ...]:
    params, grads, averages, squares = _lists(s, 4)
    squares = [one.abs() for one in squares]
    return params, grads, averages, squares, 0.9, 0.999, 1e-8, s.choose(1.0, 0.99), 0.01, 0.3


@define(ops.adamw_.default, example=_adam)
def adamw(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    step_size: float,
    root_correction: float,
) -> None:
    """AdamW (Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2):

    m = m * beta1 + g * (1 - beta1), v = v * beta2 + (g * g) * (1 - beta2), then
    p = p * decay - (m / (sqrt(v) / root_correction + eps)) * step_size.
    """
    b1, b2, rest1, rest2 = (rounded(one) for one in (beta1, beta2, 1.0 - beta1, 1.0 - beta2))
    for p, g, m, v in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        m.copy_(m * b1 + g * rest1)
        v.copy_(v * b2 + (g * g) * rest2)
        divisor = functions.root(v) / rounded(root_correction) + rounded(eps)
        p.copy_(p * rounded(decay) - (m / divisor) * rounded(step_size))


@define(
    ops.sgd_.default,
    example=lambda s: (
        *_lists(s, 3),
        0.1,
        s.choose(0.0, 0.9),
        s.choose(0.0, 0.5),
        s.choose(0.0, 0.01),
        s.choose(True, False),
    ),
)
def sgd(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor],
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """p = p - d * lr, with d = g + p * weight_decay.

    With momentum, b = b * momentum + d * (1 - dampening), and d is replaced by b, or by d + b *
    momentum with `nesterov`. Without momentum, `buffers` do not change.
    """
    for p, g, b in zip(params, grads, buffers, strict=True):
        d = g + p * rounded(weight_decay) if weight_decay else g
        if momentum:
            b.copy_(b * rounded(momentum) + d * rounded(1.0 - dampening))
            d = d + b * rounded(momentum) if nesterov else b
        p.copy_(p - d * rounded(lr))


@define(ops.lion_.default, example=lambda s: (*_lists(s, 3), 0.01, 0.9, 0.99, s.choose(1.0, 0.99)))
def lion(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    lr: float,
    beta1: float,
    beta2: float,
    decay: float,
) -> None:
    """p = p * decay - sign(m * beta1 + g * (1 - beta1)) * lr, then m = m * beta2 + g * (1 - beta2).

    Source: Chen et al., Symbolic discovery of optimization algorithms, 2023, algorithm 2.
    """
    for p, g, m in zip(params, grads, exp_avgs, strict=True):
        direction = torch.sign(m * rounded(beta1) + g * rounded(1.0 - beta1))
        p.copy_(p * rounded(decay) - direction * rounded(lr))
        m.copy_(m * rounded(beta2) + g * rounded(1.0 - beta2))


# Other operators that torch.optim.Optimizer and gradient clipping call.
exact_stock(
    torch.ops.profiler._record_function_enter_new.default,
    torch.ops.profiler._record_function_exit._RecordFunction,
    aten._foreach_zero_.default,
)


def _tensors(s: Source) -> tuple[list[Tensor], float]:
    return _lists(s, 1)[0], 0.3


@define(aten._foreach_mul_.Scalar, example=_tensors)
@define(aten._foreach_mul_.Tensor, example=lambda s: (_lists(s, 1)[0], torch.tensor(0.3)))
def multiply(tensors: Sequence[Tensor], factor: Any) -> None:
    """Multiply each tensor by `factor`, in place."""
    for one in tensors:
        one.copy_(one * factor)


@define(aten._foreach_clamp_min_.Scalar, example=_tensors)
def clamp_min(tensors: Sequence[Tensor], low: float) -> None:
    """Raise each tensor to at least `low`, in place."""
    for one in tensors:
        one.copy_(clamp(one, low, None))


@define(aten._foreach_clamp_max_.Scalar, example=_tensors)
def clamp_max(tensors: Sequence[Tensor], high: float) -> None:
    """Lower each tensor to at most `high`, in place."""
    for one in tensors:
        one.copy_(clamp(one, None, high))
