"""Optimizers with the same bits everywhere: SGD, AdamW and Lion, as their torch namesakes.

They work inside `canonical()` and outside it, with the same result. Schedulers of
`torch.optim.lr_scheduler` work, but those that call `math.cos` or `**` (cosine, one-cycle,
exponential) take Python's, whose last bits vary with the C library: `cosine` here does not.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from workloads.numerics import operator_set
from workloads.numerics.reference.operators.optimizers import ops
from workloads.numerics.reference.operators.random import TURN
from workloads.numerics.reference.primitives import functions
from workloads.numerics.registry import definitions

Tensor = torch.Tensor
Gathered = list[tuple[Tensor, Tensor, dict[str, Any]]]
NEGLIGIBLE = 2.0**-60
"""One minus anything smaller is 1."""


class _Canonical(torch.optim.Optimizer):
    """Gathers what has a gradient; the update is one operator for all parameters of a group that
    have taken equally many steps."""

    operator: Any

    # torch's wrappers of these two import its compiler: two seconds of every process that trains.
    add_param_group: Any = torch.optim.Optimizer.add_param_group.__wrapped__
    zero_grad: Any = torch.optim.Optimizer.zero_grad.__wrapped__

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update. `closure`, if given, computes the loss again, with gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for (step, fresh), gathered in self._by_age(group).items():
                params, grads, states = (list(one) for one in zip(*gathered, strict=True))
                self.update(group, params, grads, states, step, fresh)
        return loss

    def _by_age(self, group: dict[str, Any]) -> dict[tuple[int, bool], Gathered]:
        """By the number of this step, and whether the state was begun just now."""
        found: dict[tuple[int, bool], Gathered] = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            state["step"] = int(state.get("step", 0)) + 1  # a tensor, if it was loaded
            missing = [name for name in self.kept(group) if state.get(name) is None]
            for name in missing:
                state[name] = torch.zeros_like(p, memory_format=torch.contiguous_format)
            found.setdefault((state["step"], bool(missing)), []).append((p, p.grad, state))
        return found

    def kept(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Names of the state that begins as zeros of the parameter's shape."""
        raise NotImplementedError

    def update(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        states: list[Any],
        step: int,
        fresh: bool,
    ) -> None:
        """Apply the operator to parameters whose step this is. `fresh`: their state is zeros."""
        raise NotImplementedError

    def run(self, *arguments: Any) -> None:
        """Inside `canonical()` the mode takes the operator over; outside, the kernel runs."""
        self.operator(*arguments)


class AdamW(_Canonical):
    """Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2."""

    operator = ops.adamw_.default

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        _check(lr=lr, eps=eps, weight_decay=weight_decay)
        _check_below_one(*betas)
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def kept(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def update(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        states: list[Any],
        step: int,
        fresh: bool,
    ) -> None:
        beta1, beta2 = group["betas"]
        self.run(
            params,
            grads,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            beta1,
            beta2,
            group["eps"],
            1.0 - group["lr"] * group["weight_decay"],
            group["lr"] / (1.0 - power(beta1, step)),
            math.sqrt(1.0 - power(beta2, step)),
        )


class SGD(_Canonical):
    """Stochastic gradient descent with momentum, dampening, Nesterov and weight decay."""

    operator = ops.sgd_.default

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        _check(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum needs a momentum and no dampening")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def kept(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def update(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        states: list[Any],
        step: int,
        fresh: bool,
    ) -> None:
        buffers = [state["momentum_buffer"] for state in states] if group["momentum"] else params
        # As stock: the first step begins the buffer with the whole gradient.
        dampening = 0.0 if fresh else group["dampening"]
        self.run(
            params,
            grads,
            buffers,
            group["lr"],
            group["momentum"],
            dampening,
            group["weight_decay"],
            group["nesterov"],
        )


class Lion(_Canonical):
    """Chen et al., Symbolic discovery of optimization algorithms, 2023, algorithm 2."""

    operator = ops.lion_.default

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        _check(lr=lr, weight_decay=weight_decay)
        _check_below_one(*betas)
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def kept(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg",)

    def update(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        states: list[Any],
        step: int,
        fresh: bool,
    ) -> None:
        averages = [state["exp_avg"] for state in states]
        decay = 1.0 - group["lr"] * group["weight_decay"]
        self.run(params, grads, averages, group["lr"], *group["betas"], decay)


def power(beta: float, count: int) -> float:
    """beta * ... * beta, `count` times, from the left: `**` depends on the C library. Once it is
    below `NEGLIGIBLE` it stays as it is."""
    reached = _reached(beta)
    known, product = reached[0] if reached[0][0] <= count else (0, 1.0)
    for _ in range(count - known):
        if product < NEGLIGIBLE:
            break
        product *= beta
    reached[0] = (count, product)
    return product


@lru_cache(maxsize=32)
def _reached(beta: float) -> list[tuple[int, float]]:
    """The last power that was asked for: the next step's is one multiplication away. It can be
    forgotten at any time, so that a state holds no more than stock's does."""
    return [(0, 1.0)]


def cosine(step: int, *, warmup: int, total: int, least: float = 0.0) -> float:
    """Factor of the learning rate for `LambdaLR`: linear up to 1 over `warmup` steps, then half a
    cosine down to `least` at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    angle = torch.tensor(share * (TURN / 2.0), dtype=torch.float64)
    return least + (1.0 - least) * (0.5 * (1.0 + float(functions.sine(angle, 1))))


def rewarmed(step: int, *, began: int, over: int) -> float:
    """Factor for the `over` steps from `began` on, where a round of loosely coupled training starts
    with fresh moments: Adam's first steps are as large as its largest."""
    return min(1.0, (step + 1 - began) / over)


def _check(**values: float) -> None:
    for name, value in values.items():
        if value < 0.0:
            raise ValueError(f"{name} must not be negative, but is {value}")


def _check_below_one(*betas: float) -> None:
    for beta in betas:
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"each beta lies within 0 and 1, 1 excluded, not {beta}")


def _register() -> None:
    """Outside the mode the dispatcher finds the kernel on CPUs, else the reference definition."""
    operator_set.load()
    library = torch.library.Library("gensyn", "IMPL")
    for one in (AdamW, SGD, Lion):
        definition = definitions()[one.operator]
        library.impl(one.operator, definition.reference, "CompositeExplicitAutograd")
        library.impl(one.operator, definition.kernel, "CPU")
    _libraries.append(library)


_libraries: list[torch.library.Library] = []
"""Kept: a library takes its implementations away when it is freed."""
_register()
