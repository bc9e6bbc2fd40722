"""Optimizers: close to torch's own of the same name; equal bits inside and outside of the mode, and
after a restart."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from workloads.core.program import Config, Metrics, Program
from workloads.core.rng import Rng
from workloads.core.state import State, state_digest
from workloads.numerics.mode import Backend, canonical
from workloads.numerics.optim import NEGLIGIBLE, SGD, AdamW, Lion, cosine, power

Build = Callable[[Any], torch.optim.Optimizer]
OURS: dict[str, Build] = {
    "adamw": lambda params: AdamW(params, lr=0.01, weight_decay=0.1),
    "sgd": lambda params: SGD(params, lr=0.1),
    "momentum": lambda params: SGD(params, lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.1),
    "nesterov": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "lion": lambda params: Lion(params, lr=0.01, weight_decay=0.1),
}
STOCK: dict[str, Build] = {
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=0.1),
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1),
    "momentum": lambda params: torch.optim.SGD(
        params, lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.1
    ),
    "nesterov": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
}


def _weights(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    shapes = ((3, 5), (7,), ())
    return [nn.Parameter(torch.linspace(-1, 1, math.prod(s)).view(s).to(dtype)) for s in shapes]


def _descend(params: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: int = 7) -> None:
    for step in range(steps):
        for at, p in enumerate(params):
            p.grad = _gradient(p, step + at)
        optimizer.step()


def _gradient(p: torch.Tensor, at: int) -> torch.Tensor:
    """Odd multiples of 1/16: exact, of both signs, never 0."""
    numbers = [((3 * at + 5 * i) % 8 - 3.5) / 8 for i in range(p.numel())]
    return torch.tensor(numbers, dtype=p.dtype).view(p.shape)


@pytest.mark.parametrize("name", STOCK)
def test_steps_are_those_of_stock_float64(name: str) -> None:
    ours, stock = _weights(), _weights(torch.float64)
    with canonical():
        _descend(ours, OURS[name](ours))
    _descend(stock, STOCK[name](stock))
    for one, other in zip(ours, stock, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=3e-6, atol=3e-6)


def test_lion_takes_the_steps_of_its_paper() -> None:
    ours = _weights()
    with canonical():
        _descend(ours, OURS["lion"](ours), steps=1)
    for at, (one, before) in enumerate(zip(ours, _weights(), strict=True)):
        expected = before.double() * (1 - 0.01 * 0.1) - 0.01 * _gradient(before, at).sign()
        torch.testing.assert_close(one.double(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", OURS)
def test_bits_are_equal_inside_with_either_kernels_and_outside(name: str) -> None:
    found: list[str] = []
    kinds: tuple[Backend | None, ...] = ("kernels", "reference", None)
    for backend in kinds:
        params = _weights()
        optimizer = OURS[name](params)
        if backend is None:
            _descend(params, optimizer)
        else:
            with canonical(backend=backend):
                _descend(params, optimizer)
        found.append(state_digest({str(at): p.detach() for at, p in enumerate(params)}))
    assert len(set(found)) == 1


def test_strides_of_parameters_and_gradients_do_not_matter() -> None:
    found: list[torch.Tensor] = []
    for turned in (False, True):
        values = torch.linspace(-1, 1, 15).view(3, 5)
        p = nn.Parameter(values.t().contiguous().t() if turned else values)
        optimizer = OURS["adamw"]([p])
        p.grad = torch.linspace(2, -3, 15).view(5, 3).t()
        with canonical():
            for _ in range(3):
                optimizer.step()
        found.append(p.detach())
    assert torch.equal(*found)


@pytest.mark.parametrize("name", OURS)
def test_a_loaded_state_continues_with_the_same_bits(name: str) -> None:
    params = _weights()
    optimizer = OURS[name](params)
    _descend(params, optimizer)
    others = copy.deepcopy(params)
    resumed = OURS[name](others)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _descend(params, optimizer)
    _descend(others, resumed)
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


class Regression(Program):
    """One optimizer of each kind, in one program."""

    steps_per_segment, segments = 3, 2

    def load_data(self) -> State:
        return {}

    def init(self, config: Config, data: State, rng: Rng) -> None:
        self.model = nn.Linear(7, 5)
        self.optimizer = OURS[str(config["optimizer"])](self.model.parameters())

    def step(self, data: State, rng: Rng) -> None:
        self.optimizer.zero_grad()
        self.model(rng.uniform((3, 7), -1.0, 1.0)).pow(2).sum().backward()
        self.optimizer.step()

    def evaluate(self, data: State) -> Metrics:
        return {}


@pytest.mark.parametrize("name", OURS)
def test_a_program_restored_from_its_state_replays_to_the_same_digest(name: str) -> None:
    """Torch casts loaded float state to the dtype of the parameters. A result that depends on more
    bits would make the replay of an honest segment differ."""
    built: list[Regression] = []
    with canonical():
        for _ in range(2):
            torch.manual_seed(0)
            built.append(Regression())
            built[-1].init({"optimizer": name}, {}, Rng("init"))
        live, restored = built
        for at in range(5):
            live.step({}, Rng("step", at))
        state = live.get_state()
        restored.set_state(state)
        assert state_digest(restored.get_state()) == state_digest(state)
        for at in range(5, 9):
            live.step({}, Rng("step", at))
            restored.step({}, Rng("step", at))
    assert state_digest(live.get_state()) == state_digest(restored.get_state())


@pytest.mark.parametrize("name", STOCK)
def test_a_state_of_the_stock_optimizer_can_be_continued(name: str) -> None:
    stock = _weights()
    theirs = STOCK[name](stock)
    _descend(stock, theirs)
    ours = copy.deepcopy(stock)
    optimizer = OURS[name](ours)
    optimizer.load_state_dict(copy.deepcopy(theirs.state_dict()))
    _descend(stock, theirs, steps=2)
    _descend(ours, optimizer, steps=2)
    for one, other in zip(ours, stock, strict=True):
        torch.testing.assert_close(one, other, rtol=3e-6, atol=3e-6)


def test_state_has_the_keys_of_stock() -> None:
    for name, build in OURS.items():
        params = _weights()
        optimizer = build(params)
        _descend(params, optimizer, steps=1)
        keys = set(optimizer.state_dict()["state"][0])
        wanted = {"adamw": {"exp_avg", "exp_avg_sq"}, "sgd": set[str](), "lion": {"exp_avg"}}
        assert keys == {"step", *wanted.get(name, {"momentum_buffer"})}


def test_groups_have_momentum_of_their_own() -> None:
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = SGD([{"params": [p], "momentum": 0.9}, {"params": [q]}], lr=0.1)
    with canonical():
        for _ in range(2):
            p.grad, q.grad = torch.ones(3), torch.ones(3)
            optimizer.step()
    torch.testing.assert_close(p.detach(), torch.full((3,), 1 - 0.1 - 0.19))
    torch.testing.assert_close(q.detach(), torch.full((3,), 1 - 0.1 - 0.1))


def test_parameters_without_a_gradient_stay_and_age_no_further() -> None:
    ours, stock = _weights(), _weights()
    optimizer, theirs = OURS["adamw"](ours), STOCK["adamw"](stock)
    for params, one in ((ours, optimizer), (stock, theirs)):
        _descend(params[:2], one, steps=3)
        _descend(params, one, steps=3)
    for mine, other in zip(ours, stock, strict=True):
        torch.testing.assert_close(mine, other, rtol=3e-6, atol=3e-6)
    assert optimizer.state[ours[2]]["step"] == 3


def test_a_closure_is_called_with_gradients() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = SGD([p], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss.item()

    with canonical():
        assert optimizer.step(closure) == 3.0
    torch.testing.assert_close(p.detach(), torch.full((3,), 0.8))


def test_powers_are_running_products_whatever_was_asked_before() -> None:
    product, expected = 1.0, [1.0]
    for _ in range(60):
        product *= 0.9
        expected.append(product)
    for count in (60, 0, 7, 8, 9, 3, 60):
        assert power(0.9, count) == expected[count]
    assert power(0.9, 10**6) < NEGLIGIBLE
    assert power(0.0, 3) == 0.0
    assert 1.0 - NEGLIGIBLE == 1.0


SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]] = {
    "cosine of ours": lambda one: lr_scheduler.LambdaLR(
        one, lambda step: cosine(step, warmup=2, total=9, least=0.1)
    ),
    "cosine": lambda one: lr_scheduler.CosineAnnealingLR(one, 9),
    "one cycle": lambda one: lr_scheduler.OneCycleLR(one, 0.1, total_steps=9),
    "steps": lambda one: lr_scheduler.StepLR(one, 2),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["adamw", "nesterov"])
def test_schedulers_drive_them(schedule: str, name: str) -> None:
    rates: list[list[float]] = []
    for build in (OURS[name], STOCK[name]):
        params = _weights()
        optimizer = build(params)
        scheduler = SCHEDULES[schedule](optimizer)
        rates.append([])
        for _ in range(6):
            _descend(params, optimizer, steps=1)
            scheduler.step()
            rates[-1].append(optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 2


def test_our_cosine_rises_falls_and_does_not_depend_on_the_mode() -> None:
    outside = [cosine(step, warmup=4, total=20, least=0.1) for step in range(25)]
    with canonical():
        assert outside == [cosine(step, warmup=4, total=20, least=0.1) for step in range(25)]
    assert outside[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert outside[4:21] == sorted(outside[4:21], reverse=True)
    assert outside[20:] == [pytest.approx(0.1)] * 5
    for step, factor in enumerate(outside[4:21]):
        share = step / 16
        assert factor == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)), abs=1e-12)


@pytest.mark.parametrize("foreach", [None, False, True])
@pytest.mark.parametrize("order", [1.0, 2.0, math.inf])
def test_gradients_are_clipped_by_norm(order: float, foreach: bool | None) -> None:
    params = _weights()
    for p in params:
        p.grad = torch.full_like(p, 5.0)
    with canonical():
        norm = nn.utils.clip_grad_norm_(params, 2.0, norm_type=order, foreach=foreach)
    count = sum(p.numel() for p in params)
    whole = {1.0: 5.0 * count, 2.0: 5.0 * math.sqrt(count), math.inf: 5.0}[order]
    assert float(norm) == pytest.approx(whole)
    for p in params:
        assert p.grad is not None
        torch.testing.assert_close(p.grad, torch.full_like(p, 5.0 * 2.0 / whole))


@pytest.mark.parametrize("foreach", [None, False, True])
def test_gradients_are_clipped_by_value(foreach: bool | None) -> None:
    params = _weights()
    for p in params:
        p.grad = p.detach() * 4.0
    with canonical():
        nn.utils.clip_grad_value_(params, 0.5, foreach=foreach)
    for p in params:
        assert p.grad is not None
        assert torch.equal(p.grad, (p.detach() * 4.0).clamp(-0.5, 0.5))


@pytest.mark.parametrize(
    "build",
    [
        lambda p: AdamW(p, lr=-1.0),
        lambda p: AdamW(p, betas=(0.9, 1.0)),
        lambda p: Lion(p, betas=(-0.1, 0.9)),
        lambda p: SGD(p, weight_decay=-1.0),
        lambda p: SGD(p, nesterov=True),
        lambda p: SGD(p, momentum=0.9, dampening=0.1, nesterov=True),
    ],
)
def test_invalid_hyperparameters_are_refused(build: Build) -> None:
    with pytest.raises(ValueError, match=r"negative|beta|Nesterov"):
        build(_weights())
