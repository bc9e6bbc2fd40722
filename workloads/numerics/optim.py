"""Optimizers with the same bits everywhere: SGD, AdamW and Lion, as their torch namesakes.

They work inside `canonical()` and outside it, with the same result. Schedulers of
`torch.optim.lr_scheduler` work, but those that call `math.cos` or `**` (cosine, one-cycle,
exponential) take Python's, whose last bits vary with the C library: `cosine` here does not.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from workloads.numerics import operators
from workloads.numerics.plain import functions
from workloads.numerics.plain.optimizers import ops
from workloads.numerics.plain.random import TURN
from workloads.numerics.registry import definitions

Tensor = torch.Tensor
Groups = dict[int, list[tuple[Tensor, Tensor, dict[str, Any]]]]


class _Canonical(torch.optim.Optimizer):
    """Gathers what has a gradient; the update is one operator for all parameters of a group that
    have taken equally many steps."""

    operator: Any
    empty: tuple[str, ...] = ()
    """State that begins as zeros of the parameter's shape."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update. `closure`, if given, computes the loss again, with gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for gathered in self._by_age(group["params"]).values():
                params, grads, states = (list(one) for one in zip(*gathered, strict=True))
                self.update(group, params, grads, states)
        return loss

    def _by_age(self, params: Iterable[Tensor]) -> Groups:
        found: Groups = {}
        for p in params:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["step"] = 0
                for name in self.empty:
                    state[name] = torch.zeros_like(p, memory_format=torch.contiguous_format)
            found.setdefault(state["step"], []).append((p, p.grad, state))
            state["step"] += 1
        return found

    def update(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[Any]
    ) -> None:
        """Apply the operator to parameters that have taken equally many steps."""
        raise NotImplementedError

    def run(self, *arguments: Any) -> None:
        """Inside `canonical()` the mode takes the operator over; outside, the fused update runs."""
        self.operator(*arguments)


class AdamW(_Canonical):
    """Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2.

    The powers of beta in the bias correction are running products, kept in the state."""

    operator = ops.adamw_.default
    empty = ("exp_avg", "exp_avg_sq")

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

    def update(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[Any]
    ) -> None:
        beta1, beta2 = group["betas"]
        for state in states:
            state["beta1_power"] = state.get("beta1_power", 1.0) * beta1
            state["beta2_power"] = state.get("beta2_power", 1.0) * beta2
        first = states[0]
        self.run(
            params,
            grads,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            beta1,
            beta2,
            group["eps"],
            1.0 - group["lr"] * group["weight_decay"],
            group["lr"] / (1.0 - first["beta1_power"]),
            math.sqrt(1.0 - first["beta2_power"]),
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
        self.empty = ("momentum_buffer",) if momentum else ()
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

    def update(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[Any]
    ) -> None:
        buffers = [state["momentum_buffer"] for state in states] if self.empty else params
        # As stock: the first step begins the buffer with the whole gradient.
        dampening = group["dampening"] if states[0]["step"] > 1 else 0.0
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
    empty = ("exp_avg",)

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

    def update(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[Any]
    ) -> None:
        averages = [state["exp_avg"] for state in states]
        decay = 1.0 - group["lr"] * group["weight_decay"]
        self.run(params, grads, averages, group["lr"], *group["betas"], decay)


def cosine(step: int, *, warmup: int, total: int, least: float = 0.0) -> float:
    """Factor of the learning rate for `LambdaLR`: linear up to 1 over `warmup` steps, then half a
    cosine down to `least` at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    angle = torch.tensor(share * (TURN / 2.0), dtype=torch.float64)
    return least + (1.0 - least) * (0.5 * (1.0 + float(functions.sine(angle, 1))))


def _check(**values: float) -> None:
    for name, value in values.items():
        if value < 0.0:
            raise ValueError(f"{name} must not be negative, but is {value}")


def _check_below_one(*betas: float) -> None:
    for beta in betas:
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"each beta lies within 0 and 1, 1 excluded, not {beta}")


def _register() -> None:
    """Outside the mode the dispatcher finds the fused update on CPUs, else the definition."""
    operators.load()
    library = torch.library.Library("gensyn", "IMPL")
    for one in (AdamW, SGD, Lion):
        definition = definitions()[one.operator]
        library.impl(one.operator, definition.plain, "CompositeExplicitAutograd")
        library.impl(one.operator, definition.fused, "CPU")
    _libraries.append(library)


_libraries: list[torch.library.Library] = []
"""Kept: a library takes its implementations away when it is freed."""
_register()
