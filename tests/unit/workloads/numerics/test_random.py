"""Random operators: Philox's known answers, torch's generators, and distributions."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from tests.kits.drawn import bits_of
from workloads.numerics.mode import Backend, canonical
from workloads.numerics.reference.operators import random

ALL_ONES = 2**64 - 1
PI = (0x299F31D0_A4093822, 0x03707344_13198A2E, 0x85A308D3_243F6A88 - 2**64)
ANSWERS = {
    (0, 0, 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    (ALL_ONES, ALL_ONES, -1): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    PI: (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
}
"""(key, upper and lower half of the counter) -> words, from Random123."""
MANY = 40_000

DRAWS: dict[str, Callable[[], Any]] = {
    "rand": lambda: torch.rand(13, 3),
    "randn": lambda: torch.randn(13, 3),
    "randint": lambda: torch.randint(-5, 9, (31,)),
    "randperm": lambda: torch.randperm(31),
    "rand_like": lambda: torch.rand_like(torch.zeros(5, 7)),
    "bernoulli": lambda: torch.bernoulli(torch.full((5, 7), 0.4)),
    "random_": lambda: torch.zeros(31, dtype=torch.int64).random_(),
    "randint_like": lambda: torch.randint_like(torch.zeros(31), 2, 9),
    "normal of tensors": lambda: torch.normal(torch.zeros(5, 7), torch.ones(7)),
    "bernoulli_ of a tensor": lambda: torch.zeros(5, 7).bernoulli_(torch.full((7,), 0.4)),
    "multinomial": lambda: torch.multinomial(torch.ones(4, 9), 5),
    "batches": lambda: list(DataLoader(TensorDataset(torch.arange(30)), 4, shuffle=True)),
    "exponential_": lambda: torch.empty(31).exponential_(2.0),
    "dropout": lambda: functional.dropout(torch.ones(5, 7), 0.3),
    "dropout2d": lambda: functional.dropout2d(torch.ones(2, 9, 2, 2), 0.3),
    "gumbel_softmax": lambda: functional.gumbel_softmax(torch.zeros(4, 6)),
    "attention": lambda: functional.scaled_dot_product_attention(
        *[(torch.arange(48.0) / 48).view(1, 2, 6, 4)] * 3, dropout_p=0.2
    ),
    "linear": lambda: list(nn.Linear(5, 3).parameters()),
    "convolution": lambda: list(nn.Conv2d(3, 4, 3).parameters()),
    "embedding": lambda: list(nn.Embedding(9, 5).parameters()),
    "lstm": lambda: list(nn.LSTM(4, 3).parameters()),
    **{
        name: lambda name=name: getattr(nn.init, name)(torch.empty(7, 5))
        for name in (
            "uniform_",
            "normal_",
            "kaiming_uniform_",
            "kaiming_normal_",
            "xavier_uniform_",
            "xavier_normal_",
            "trunc_normal_",
        )
    },
}


@pytest.fixture(autouse=True)
def _own_seed() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


@pytest.mark.parametrize("given", ANSWERS)
def test_philox_gives_its_known_answers(given: tuple[int, int, int]) -> None:
    key, stream, counter = given
    drawn = random.blocks(key, stream, torch.tensor([counter]))
    assert tuple(drawn[0].tolist()) == ANSWERS[given]


@pytest.mark.parametrize("draw", DRAWS)
def test_kernels_and_reference_definitions_draw_equal_bits(draw: str) -> None:
    drawn: list[Any] = []
    kinds: tuple[Backend, ...] = ("kernels", "reference")
    for backend in kinds:
        torch.manual_seed(3)
        with canonical(backend=backend):
            drawn.append((bits_of(DRAWS[draw]()), bits_of(torch.get_rng_state())))
    assert drawn[0] == drawn[1]


def test_seeds_forks_and_saved_states_keep_their_meaning() -> None:
    with canonical():
        torch.manual_seed(5)
        first = torch.rand(9)
        saved = torch.get_rng_state()
        second = torch.rand(9)
        with torch.random.fork_rng():
            torch.rand(100)
        third = torch.rand(9)
        torch.set_rng_state(saved)
        assert torch.equal(torch.rand(9), second)
        assert torch.equal(torch.rand(9), third)
        torch.manual_seed(5)
        assert torch.equal(torch.rand(9), first)
        assert not torch.equal(first, second)


def test_a_generator_of_ones_own_leaves_the_default_one_alone() -> None:
    before = torch.get_rng_state()
    with canonical():
        one = torch.rand(9, generator=torch.Generator().manual_seed(1))
        other = torch.rand(9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_element_depends_on_its_place_alone() -> None:
    """A longer tensor starts with the numbers of a shorter one, whatever the blocks and threads."""
    found: list[torch.Tensor] = []
    for count in (1, 2, 3, 5, 16, 17, 1000):
        torch.manual_seed(3)
        with canonical():
            found.append(torch.randn(count))
    for one in found:
        assert torch.equal(one, found[-1][: len(one)])


def test_uniform_numbers_fill_their_range_but_for_its_end() -> None:
    with canonical():
        unit = torch.rand(MANY)
        narrow = torch.empty(MANY).uniform_(1.0, 1.0 + 2.0**-22)
    assert unit.min() >= 0
    assert unit.max() < 1
    assert torch.equal(unit * 2.0**24, (unit * 2.0**24).floor())
    assert float(unit.double().mean()) == pytest.approx(0.5, abs=0.01)
    assert float(unit.double().var()) == pytest.approx(1 / 12, abs=0.003)
    assert set(narrow.tolist()) == {1.0, 1.0 + 2.0**-23}


def test_normal_numbers_have_the_moments_of_a_normal() -> None:
    with canonical():
        z = torch.randn(MANY)
    z = z.double()
    assert float(z.mean()) == pytest.approx(0, abs=0.02)
    assert float(z.var()) == pytest.approx(1, abs=0.03)
    assert float((z**4).mean()) == pytest.approx(3, abs=0.2)
    assert float((z[::2] * z[1::2]).mean()) == pytest.approx(0, abs=0.03)
    for level in (-1.0, 0.0, 1.0, 2.0):
        expected = 0.5 * math.erfc(-level / math.sqrt(2))
        assert float((z <= level).double().mean()) == pytest.approx(expected, abs=0.01)


def test_truncated_normals_stay_within_their_bounds() -> None:
    with canonical():
        x = nn.init.trunc_normal_(torch.empty(MANY), std=0.5, a=-0.5, b=1.0)
    assert -0.5 <= float(x.min()) < -0.49
    assert 0.97 < float(x.max()) <= 1.0
    assert float(x.double().mean()) == pytest.approx(0.115, abs=0.01)


def test_whole_numbers_and_orders_are_even() -> None:
    with canonical():
        drawn = torch.randint(-2, 3, (MANY,))
        firsts = torch.stack([torch.randperm(4) for _ in range(400)])
    counts = torch.bincount(drawn + 2, minlength=5)
    assert counts.min() > MANY / 5 * 0.95
    assert torch.equal(firsts.sort(1).values, torch.arange(4).expand(400, 4))
    assert torch.bincount(firsts[:, 0], minlength=4).min() > 60


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_dropout_keeps_its_share_scaled_by_one_rounding(p: float) -> None:
    x = torch.linspace(-2, 2, MANY)
    with canonical():
        out, mask = torch.native_dropout(x, p, True)
        back = torch.ops.aten.native_dropout_backward(x, mask, 1.25)
    scale = torch.tensor(1.0 / (1.0 - p) if p < 1 else 0.0, dtype=torch.float32)
    assert float(mask.double().mean()) == pytest.approx(1 - p, abs=0.01)
    assert torch.equal(out, torch.where(mask, x * scale, 0.0))
    assert torch.equal(back, torch.where(mask, x * 1.25, 0.0))


def test_dropout_drops_the_same_elements_of_the_gradient() -> None:
    x = torch.ones(200, requires_grad=True)
    with canonical():
        out = functional.dropout(x, 0.4)
        out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())
    assert 0 < int((out == 0).sum()) < 200


@pytest.mark.parametrize("bounds", [(5, 5), (5, 3)])
def test_an_empty_range_is_refused(bounds: tuple[int, int]) -> None:
    low, high = bounds
    with canonical(), pytest.raises((ValueError, RuntimeError)):
        torch.randint(low, high, (4,))


def test_a_uniform_range_upside_down_is_refused() -> None:
    with canonical(), pytest.raises((ValueError, RuntimeError)):
        torch.empty(4).uniform_(1.0, 0.0)


@pytest.mark.parametrize("replacement", [False, True])
def test_weighted_draws_come_in_proportion(replacement: bool) -> None:
    weights = torch.tensor([1.0, 2.0, 0.0, 5.0])
    with canonical():
        first = torch.multinomial(weights.expand(MANY, 4), 1, replacement)[:, 0]
        three = torch.multinomial(weights.expand(50, 4), 3)
    shares = torch.bincount(first, minlength=4).double() / MANY
    torch.testing.assert_close(shares, weights.double() / 8, atol=0.01, rtol=0.0)
    assert torch.equal(three.sort(1).values, torch.tensor([0, 1, 3]).expand(50, 3))


def test_weights_that_allow_no_draw_are_refused() -> None:
    with canonical(), pytest.raises(ValueError, match="weights"):
        torch.multinomial(torch.tensor([1.0, 0.0]), 2)
