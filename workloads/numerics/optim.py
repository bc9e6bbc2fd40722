"""Optimizers with the same bits on every machine: SGD, AdamW and Lion, with the interfaces of their
torch namesakes.

They give the same result inside and outside `canonical()`. Schedulers of `torch.optim.lr_scheduler`
work. Those that call `math.cos` or `**` (cosine, one-cycle, exponential) depend on the C library in
their last bits; `cosine` in this module does not.
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
"""1 - x is 1 in float64 for every smaller x."""


class _Canonical(torch.optim.Optimizer):
    """Base of the optimizers. It collects the parameters that have a gradient. One operator updates
    all parameters of a group that have the same number of steps."""

    operator: Any

    # torch's wrappers of these methods import its compiler, which takes one to two seconds.
    add_param_group: Any = torch.optim.Optimizer.add_param_group.__wrapped__
    load_state_dict: Any = torch.optim.Optimizer.load_state_dict.__wrapped__
    state_dict: Any = torch.optim.Optimizer.state_dict.__wrapped__
    zero_grad: Any = torch.optim.Optimizer.zero_grad.__wrapped__

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update. Returns the loss of `closure`, if given. `closure` computes the loss and its
        gradients."""
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
        """The parameters with a gradient, by the number of this step and whether their state is
        new."""
        found: dict[tuple[int, bool], Gathered] = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            state["step"] = int(state.get("step", 0)) + 1  # a loaded state holds a tensor
            missing = [name for name in self.kept(group) if state.get(name) is None]
            for name in missing:
                state[name] = torch.zeros_like(p, memory_format=torch.contiguous_format)
            found.setdefault((state["step"], bool(missing)), []).append((p, p.grad, state))
        return found

    def kept(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Names of the state tensors: they have the parameter's shape and start as zeros."""
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
        """Apply the operator to parameters of one step number. `fresh`: their state is new, all
        zeros."""
        raise NotImplementedError

    def run(self, *arguments: Any) -> None:
        """Call the operator. Inside `canonical()` the mode computes it. Outside, the dispatcher
        calls the kernel."""
        self.operator(*arguments)


class AdamW(_Canonical):
    """AdamW. Source: Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm
    2.

    Raises `ValueError` for a negative setting or a beta outside [0, 1).
    """

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
        """The moments, which start as zeros."""
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
        """Apply `gensyn::adamw_`, with the bias corrections of this step."""
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
    """Stochastic gradient descent with momentum, dampening, Nesterov momentum and weight decay.

    Raises `ValueError` for a negative setting, or for Nesterov momentum without momentum or with
    dampening.
    """

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
            raise ValueError("Nesterov momentum needs momentum > 0 and dampening = 0")
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
        """The momentum buffer, if there is momentum."""
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
        """Apply `gensyn::sgd_`. Without momentum, no buffer is read or written."""
        buffers = [state["momentum_buffer"] for state in states] if group["momentum"] else params
        # As in torch, the first step sets the buffer to the gradient, without dampening.
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
    """Lion. Source: Chen et al., Symbolic discovery of optimization algorithms, 2023, algorithm 2.

    Raises `ValueError` for a negative setting or a beta outside [0, 1).
    """

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
        """The moving average of the gradient."""
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
        """Apply `gensyn::lion_`."""
        averages = [state["exp_avg"] for state in states]
        decay = 1.0 - group["lr"] * group["weight_decay"]
        self.run(params, grads, averages, group["lr"], *group["betas"], decay)


def power(beta: float, count: int) -> float:
    """beta^count, multiplied from the left, because `**` depends on the C library. A product below
    `NEGLIGIBLE` is not multiplied further."""
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
    """The last power of beta that was computed, as [(count, power)]. The next step needs one
    multiplication. The entry is a cache and not part of the optimizer's state."""
    return [(0, 1.0)]


def cosine(step: int, *, warmup: int, total: int, least: float = 0.0) -> float:
    """Factor of the learning rate for `LambdaLR`: linear up to 1 over `warmup` steps, then half a
    cosine down to `least` at step `total`."""
    if step < warmup:
        return (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    angle = torch.tensor(share * (TURN / 2.0), dtype=torch.float64)
    return least + (1.0 - least) * (0.5 * (1.0 + float(functions.sine(angle, 1))))


def rewarmed(step: int, *, began: int, over: int) -> float:
    """Factor of the learning rate in a DiLoCo round that starts with new moments: linear up to 1
    over the `over` steps from step `began` on. Adam's first steps are as large as its largest."""
    return min(1.0, (step + 1 - began) / over)


def _check(**values: float) -> None:
    """Raises `ValueError` for a negative value."""
    for name, value in values.items():
        if value < 0.0:
            raise ValueError(f"{name} must not be negative, but is {value}")


def _check_below_one(*betas: float) -> None:
    """Raises `ValueError` for a beta outside [0, 1)."""
    for beta in betas:
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"each beta lies in [0, 1), not {beta}")


def _register() -> None:
    """Register the operators with torch's dispatcher, for use outside the mode: the kernel on CPUs,
    the reference definition on other devices."""
    operator_set.load()
    library = torch.library.Library("gensyn", "IMPL")
    for one in (AdamW, SGD, Lion):
        definition = definitions()[one.operator]
        library.impl(one.operator, definition.reference, "CompositeExplicitAutograd")
        library.impl(one.operator, definition.kernel, "CPU")
    _libraries.append(library)


_libraries: list[torch.library.Library] = []
"""A list that keeps the library alive: torch removes its implementations when it is freed."""
_register()
