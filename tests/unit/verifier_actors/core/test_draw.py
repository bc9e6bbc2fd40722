"""Beacon, draws, detection probability and outcomes of audits."""

import hashlib
import itertools
import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier_actors.core import beacon
from verifier_actors.core.draw import (
    PPM,
    choose,
    detection_probability,
    draw_value,
    is_drawn,
)
from verifier_actors.core.outcome import (
    UNAVAILABLE_RESULT,
    Outcome,
    compare,
)

DEMO_RATE_PPM = 400_000
DEMO_BAD_SEGMENTS = 12
RUNS = 100_000
ROOT = hashlib.sha256(b"root").digest()
SECRET = hashlib.sha256(b"secret").digest()


def number(value: int) -> bytes:
    """A draw value whose first eight bytes are this number."""
    return value.to_bytes(8, "big") + b"\xff" * 24


# -- the beacon ------------------------------------------------------------------------------


def test_every_link_hashes_to_the_one_shown_before() -> None:
    seed, length = b"seed", 20
    links = [beacon.link_of(seed, length, index) for index in range(length + 1)]
    assert links[0] == beacon.anchor_of(seed, length)
    assert links[length] == seed
    assert len(set(links)) == length + 1
    for previous, link in itertools.pairwise(links):
        assert beacon.follows(link, previous)
        assert hashlib.sha256(link).digest() == previous


def test_no_other_link_follows() -> None:
    links = [beacon.link_of(b"seed", 5, index) for index in range(6)]
    for at, link in enumerate(links):
        for before, previous in enumerate(links):
            assert beacon.follows(link, previous) == (at == before + 1)
    assert not beacon.follows(b"", links[0])
    assert not beacon.follows(links[1] + b"\x00", links[0])


def test_a_chain_that_is_used_up_has_no_more_links() -> None:
    for index in (-1, 6, 100):
        with pytest.raises(ValueError, match="ends at 5"):
            beacon.link_of(b"seed", 5, index)


# -- draws -----------------------------------------------------------------------------------


def test_a_rate_of_zero_draws_nothing() -> None:
    assert not any(is_drawn(number(value), 0) for value in (0, 1, 2**63, 2**64 - 1))


def test_a_rate_of_one_draws_everything() -> None:
    assert all(is_drawn(number(value), PPM) for value in (0, 1, 2**63, 2**64 - 1))


@pytest.mark.parametrize("rate_ppm", [1, 50_000, DEMO_RATE_PPM, 500_000, 999_999])
def test_the_rate_is_the_exact_share_of_values_that_are_drawn(rate_ppm: int) -> None:
    drawn = -(-(rate_ppm << 64) // PPM)
    assert is_drawn(number(0), rate_ppm)
    assert is_drawn(number(drawn - 1), rate_ppm)
    assert not is_drawn(number(drawn), rate_ppm)
    assert not is_drawn(number(2**64 - 1), rate_ppm)


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(0, PPM), st.integers(0, PPM))
def test_what_a_lower_rate_draws_a_higher_one_draws_too(value: bytes, one: int, two: int) -> None:
    low, high = sorted((one, two))
    assert is_drawn(value, low) <= is_drawn(value, high)


def test_a_draw_depends_on_both_links_the_commitment_and_the_leaf() -> None:
    other = hashlib.sha256(b"other").digest()
    values = {
        draw_value(link=ROOT, root=SECRET, secret=other, leaf_index=0),
        draw_value(link=ROOT, root=SECRET, secret=other, leaf_index=1),
        draw_value(link=ROOT, root=SECRET, secret=ROOT, leaf_index=0),
        draw_value(link=ROOT, root=other, secret=other, leaf_index=0),
        draw_value(link=other, root=SECRET, secret=other, leaf_index=0),
        draw_value(link=SECRET, root=ROOT, secret=other, leaf_index=0),
        draw_value(link=ROOT, root=SECRET, secret=b"", leaf_index=0),
    }
    assert len(values) == 7
    assert all(len(value) == 32 for value in values)


def test_a_draw_is_the_documented_hash() -> None:
    assert (
        draw_value(link=b"L" * 32, root=b"R" * 32, secret=b"S" * 32, leaf_index=258)
        == hashlib.sha256(
            b"gensyn-ray/draw/v1\n" + b"L" * 32 + b"R" * 32 + b"S" * 32 + bytes(6) + b"\x01\x02"
        ).digest()
    )


@settings(deadline=None)
@given(
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(max_size=8), min_size=1, max_size=6, unique=True),
    st.randoms(use_true_random=False),
)
def test_who_is_chosen_does_not_depend_on_the_order(
    value: bytes, candidates: list[str], random: Random
) -> None:
    shuffled = list(candidates)
    random.shuffle(shuffled)
    chosen = choose(value, candidates)
    assert chosen in candidates
    assert choose(value, shuffled) == chosen


@settings(deadline=None)
@given(
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(max_size=8), min_size=2, max_size=6, unique=True),
)
def test_who_is_chosen_stays_chosen_when_others_leave(value: bytes, candidates: list[str]) -> None:
    chosen = choose(value, candidates)
    for other in candidates:
        if other != chosen:
            assert choose(value, [one for one in candidates if one != other]) == chosen


def test_every_verifier_is_chosen_about_equally_often() -> None:
    verifiers = ["v-0", "v-1", "v-2", "v-3"]
    count = dict.fromkeys(verifiers, 0)
    for run in range(4_000):
        count[choose(hashlib.sha256(run.to_bytes(8, "big")).digest(), verifiers)] += 1
    spread = 4 * math.sqrt(4_000 * 0.25 * 0.75)
    assert all(abs(seen - 1_000) < spread for seen in count.values())


def test_a_choice_from_no_candidates_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        choose(ROOT, [])


# -- detection -------------------------------------------------------------------------------


def caught(run: int, bad_segments: int, rate_ppm: int) -> bool:
    """Whether the real draw selects the cheat of a simulated run at least once."""
    link = hashlib.sha256(b"run" + run.to_bytes(8, "big")).digest()
    return any(
        is_drawn(draw_value(link=link, root=ROOT, secret=SECRET, leaf_index=leaf), rate_ppm)
        for leaf in range(bad_segments)
    )


@pytest.mark.parametrize(
    ("bad_segments", "rate_ppm"), [(DEMO_BAD_SEGMENTS, DEMO_RATE_PPM), (3, 50_000)]
)
def test_cheats_are_caught_as_often_as_the_formula_says(bad_segments: int, rate_ppm: int) -> None:
    expected = detection_probability(bad_segments, rate_ppm)
    seen = sum(caught(run, bad_segments, rate_ppm) for run in range(RUNS)) / RUNS
    standard_error = math.sqrt(expected * (1 - expected) / RUNS)
    assert abs(seen - expected) < 4 * standard_error


def test_the_demos_cheat_is_caught_at_least_99_times_in_100() -> None:
    assert detection_probability(DEMO_BAD_SEGMENTS, DEMO_RATE_PPM) >= 0.99


def test_the_ends_of_the_detection_formula() -> None:
    assert detection_probability(0, 500_000) == 0.0
    assert detection_probability(5, 0) == 0.0
    assert detection_probability(1, PPM) == 1.0
    assert detection_probability(1, 250_000) == 0.25
    assert detection_probability(2, 500_000) == 0.75


# -- outcomes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verifier", "referee", "outcome"),
    [
        ("claimed", None, Outcome.ACCEPT),
        ("claimed", "other", Outcome.ACCEPT),
        (UNAVAILABLE_RESULT, None, Outcome.UNAVAILABLE),
        (UNAVAILABLE_RESULT, "claimed", Outcome.UNAVAILABLE),
        ("other", None, None),
        ("other", "claimed", Outcome.INCONCLUSIVE),
        ("other", "other", Outcome.REJECT),
        ("other", "third", Outcome.INCONCLUSIVE),
        ("other", UNAVAILABLE_RESULT, Outcome.UNAVAILABLE),
    ],
)
def test_outcomes_are_those_of_the_table(
    verifier: str, referee: str | None, outcome: Outcome | None
) -> None:
    assert compare("claimed", verifier, referee) is outcome


@settings(deadline=None)
@given(st.sampled_from("abc"), st.sampled_from("abc"), st.sampled_from(["a", "b", "c", None]))
def test_one_replay_rejects_no_segment(claimed: str, verifier: str, referee: str | None) -> None:
    if compare(claimed, verifier, referee) is Outcome.REJECT:
        assert verifier == referee != claimed
