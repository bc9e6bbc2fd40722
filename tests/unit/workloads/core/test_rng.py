"""Counter-based random numbers: golden streams that depend only on the parts."""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from workloads.core.rng import Rng, seed_torch
from workloads.core.state import state_digest

# Golden: these numbers are part of every committed state.
RAW = [5102238310019026755, 2402100091988570676, 7776781009508258995]
UNIFORM = [[-0.44681429862976074, -0.7395638227462769], [-0.15683972835540771, 0.6146066188812256]]
PERMUTATION = [5, 1, 4, 7, 0, 2, 6, 9, 3, 8]
INTEGERS = [55, 76, 95, 74, 87, 3]
SEED = 2551119155009513377
WEIGHTS = "84099760c224eeb4feccde2598dfd6aae3fbdb7051cbda494f31ec29609b62e8"


class Extreme(Rng):
    """A stream of one repeated 64-bit word."""

    def __init__(self, word: int) -> None:
        super().__init__()
        self._word = word

    def raw(self, count: int) -> Any:
        return np.full(count, self._word, dtype=np.uint64)


def philox(key: bytes, count: int) -> list[int]:
    """Philox 4x64-10 in Python integers, after its paper. NumPy counts from 1."""
    mask = 2**64 - 1
    words: list[int] = []
    counter = 1
    while len(words) < count:
        x, k = [counter, 0, 0, 0], [int.from_bytes(key[:8], "little"), 0]
        k[1] = int.from_bytes(key[8:], "little")
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
            x = [(b >> 64) ^ x[1] ^ k[0], b & mask, (a >> 64) ^ x[3] ^ k[1], a & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        words += x
        counter += 1
    return words[:count]


def test_the_bits_are_those_of_philox_under_a_hash_of_the_parts() -> None:
    key = hashlib.sha256(b"gensyn-ray/rng/v1\n" + b"7\x1ft001\x1fstep\x1f3").digest()[:16]
    rng = Rng(7, "t001", "step", 3)
    assert rng.key == key
    assert rng.raw(9).tolist() == philox(key, 9)


def test_the_raw_stream_never_changes() -> None:
    assert Rng("golden").raw(3).tolist() == RAW


def test_uniform_never_changes() -> None:
    assert Rng("golden").uniform((2, 2), -1, 1).tolist() == UNIFORM


def test_permutation_never_changes() -> None:
    assert Rng("golden").permutation(10).tolist() == PERMUTATION


def test_integers_never_change() -> None:
    assert Rng("golden").integers((6,), 100).tolist() == INTEGERS


def test_the_seed_never_changes() -> None:
    assert Rng("golden").seed() == SEED


def test_initial_weights_never_change() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 3), nn.LayerNorm(3))
    Rng("golden").init_linear_(model)
    assert state_digest(model.state_dict()) == WEIGHTS


def test_the_same_parts_give_the_same_stream() -> None:
    one, other = Rng(1, "t000", "step", 5), Rng(1, "t000", "step", 5)
    assert one.uniform((4,)).tolist() == other.uniform((4,)).tolist()
    assert one.permutation(9).tolist() == other.permutation(9).tolist()
    assert one.integers((3, 2), 7).tolist() == other.integers((3, 2), 7).tolist()
    assert one.seed() == other.seed()


def test_any_other_part_gives_another_stream() -> None:
    parts: list[tuple[str | int, ...]] = [
        (1, "t000", "step", 5),
        (2, "t000", "step", 5),
        (1, "t001", "step", 5),
        (1, "t000", "init", 5),
        (1, "t000", "step", 6),
        (1, "t000", "step"),
        (1, "t000", "step5"),
        (1, "t000step", 5),
        (),
    ]
    streams = {tuple(Rng(*one).raw(4).tolist()) for one in parts}
    assert len(streams) == len(parts)


def test_draws_follow_one_another_in_the_stream() -> None:
    whole = Rng("order").uniform((6,))
    rng = Rng("order")
    in_parts = torch.cat([rng.uniform((2,)), rng.uniform((1,)), rng.uniform((3,))])
    assert in_parts.tolist() == whole.tolist()


def test_the_kind_of_a_draw_does_not_change_what_follows_it() -> None:
    one, other = Rng("order"), Rng("order")
    one.uniform((2, 2))
    other.integers((4,), 9)
    assert one.raw(2).tolist() == other.raw(2).tolist()


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 300), part=st.integers())
def test_a_permutation_holds_every_number_once(count: int, part: int) -> None:
    found = Rng(part).permutation(count)
    assert found.dtype == torch.int64
    assert sorted(found.tolist()) == list(range(count))


@settings(max_examples=50, deadline=None)
@given(bound=st.floats(2.0**-20, 2.0**20, width=32), part=st.integers())
def test_uniform_lies_within_its_bounds(bound: float, part: int) -> None:
    rng = Rng(part)
    for low, high in ((0.0, 1.0), (-bound, bound), (0.0, bound)):
        values = rng.uniform((50,), low, high)
        assert values.dtype == torch.float32
        assert bool((values >= low).all())
        assert bool((values < high).all())


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (-0.25, 0.25), (0.0, 3.0)])
def test_uniform_takes_its_low_end_and_stays_below_its_high_end(low: float, high: float) -> None:
    assert Extreme(0).uniform((1,), low, high).item() == low
    assert Extreme(2**64 - 1).uniform((1,), low, high).item() < high


def test_uniform_uses_the_top_bits_of_each_word() -> None:
    word = (1 << 63) | ((1 << 40) - 1)
    assert Extreme(word).uniform((1,)).item() == 0.5


def test_uniform_is_spread_evenly() -> None:
    counts = torch.histc(Rng("spread").uniform((8000,)), bins=8, min=0.0, max=1.0)
    assert int(counts.min()) > 850
    assert int(counts.max()) < 1150


def test_integers_lie_below_their_bound_and_reach_all_of_it() -> None:
    found = Rng("dice").integers((600,), 6)
    assert found.dtype == torch.int64
    assert sorted(set(found.tolist())) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_draws_have_the_asked_shape(shape: tuple[int, ...]) -> None:
    assert Rng("s").uniform(shape).shape == shape
    assert Rng("s").integers(shape, 5).shape == shape


def test_seeds_fit_in_63_bits() -> None:
    assert Extreme(2**64 - 1).seed() == 2**63 - 1
    torch.manual_seed(Extreme(2**64 - 1).seed())


def _model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(2, 3, 2),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
        nn.BatchNorm1d(3),
        nn.Linear(4, 5),
        nn.LayerNorm(5),
        nn.Linear(5, 2, bias=False),
        nn.ReLU(),
    )


def test_initial_weights_do_not_depend_on_torchs_global_seed() -> None:
    digests: set[str] = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = _model()
        Rng(5, "init").init_linear_(model)
        digests.add(state_digest(model.state_dict()))
    assert len(digests) == 1
    model = _model()
    Rng(6, "init").init_linear_(model)
    assert state_digest(model.state_dict()) not in digests


def test_initial_weights_leave_torchs_global_generator_alone() -> None:
    model = _model()
    before = torch.get_rng_state()
    Rng(5).init_linear_(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_weight_and_bias_is_filled_within_torchs_own_bound() -> None:
    model = _model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(99.0)
    Rng(5).init_linear_(model)
    bounds = {"0": 4**-0.5, "1.0": 9**-0.5, "3": 4**-0.5, "5": 5**-0.5}
    for prefix, bound in bounds.items():
        for parameter in model.get_submodule(prefix).parameters():
            assert parameter.abs().max().item() <= bound
            assert parameter.requires_grad


def test_a_layer_without_a_known_initialisation_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Embedding(3, 2))
    with pytest.raises(TypeError, match="Embedding"):
        Rng(5).init_linear_(model)


class Top(Rng):
    def raw(self, count: int) -> Any:
        return np.full(count, 2**64 - 1, dtype=np.uint64)


@pytest.mark.parametrize(("low", "high"), [(1.0, 2.0), (10.0, 11.0), (0.5, 0.75)])
def test_uniform_stays_below_its_high_end(low: float, high: float) -> None:
    """Regression: the sum was rounded up to `high`."""
    assert Top("a").uniform((1,), low, high).item() < high


def test_torch_is_seeded_as_by_its_own_function() -> None:
    for seed in (0, 5, 2**63 - 1):
        torch.manual_seed(seed)
        expected = torch.rand(8)
        torch.rand(3)
        seed_torch(seed)
        assert torch.equal(torch.rand(8), expected)
