"""A replay gives the claimed result only for honest work. The auditor requests each replay once."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from gensyn_ray.domain.leaf import result_digest
from tests.kits import small_programs
from tests.kits.memory_store import ProgramStore
from tests.kits.replay_kit import request, work
from verifier_actors.actors.actor import IN_FLIGHT, Auditor
from verifier_actors.core.outcome import UNAVAILABLE_RESULT
from verifier_actors.replay.replay import ReplayRequest, Verifier, replay
from workloads.core.bundle import Bundle
from workloads.core.data_cache import DataCache
from workloads.core.program import Program
from workloads.core.segment import Runner
from workloads.numerics.arithmetic import arithmetic


@pytest.mark.parametrize("program", small_programs.ALL)
def test_an_honest_segment_replays_to_the_claimed_result(program: type[Program]) -> None:
    store = ProgramStore(program, lr=0.2)
    before = ""
    for computed in work(store, program, 3):
        claimed = result_digest(computed.state_after, computed.metrics)
        assert replay(request(store, before), store, DataCache()) == claimed
        before = computed.state_after


def test_a_segment_cut_short_does_not_replay() -> None:
    store = ProgramStore(small_programs.Small, lr=0.2)
    one = small_programs.Small()
    runner = Runner(one, store.spec, one.load_data(), arithmetic)
    runner.train(2)
    lazy = runner.finish()
    assert replay(request(store), store, DataCache()) != result_digest(
        lazy.state_after, lazy.metrics
    )


def test_a_forged_metric_does_not_replay() -> None:
    store = ProgramStore(small_programs.Small, lr=0.2)
    (honest,) = work(store, small_programs.Small, 1)
    forged = {**honest.metrics, "accuracy": honest.metrics["accuracy"] + 2**-50}
    missing = {"loss": honest.metrics["loss"]}
    for metrics in (forged, missing):
        assert replay(request(store), store, DataCache()) != result_digest(
            honest.state_after, metrics
        )


def test_a_program_that_changes_its_data_replays_twice_in_one_process() -> None:
    store, cache = ProgramStore(small_programs.InPlace, lr=0.2), DataCache()
    (first,) = work(store, small_programs.InPlace, 1)
    claimed = result_digest(first.state_after, first.metrics)
    for _ in range(2):
        assert replay(request(store), store, cache) == claimed


def test_another_predecessor_does_not_replay() -> None:
    store = ProgramStore(small_programs.Small, lr=0.2)
    first, second = work(store, small_programs.Small, 2)
    claimed = result_digest(second.state_after, second.metrics)
    assert replay(request(store, first.state_after), store, DataCache()) == claimed
    assert replay(request(store), store, DataCache()) != claimed
    assert replay(request(store, second.state_after), store, DataCache()) != claimed


def test_a_lost_predecessor_is_unavailable() -> None:
    store = ProgramStore(small_programs.Small, lr=0.2)
    assert replay(request(store, "0" * 64), store, DataCache()) == UNAVAILABLE_RESULT


def test_a_lost_spec_or_bundle_is_unavailable() -> None:
    store = ProgramStore(small_programs.Small, lr=0.2)
    asked = request(store)
    store.lose("bundles")
    assert replay(asked, store, DataCache()) == UNAVAILABLE_RESULT
    store.lose("specs")
    assert replay(asked, store, DataCache()) == UNAVAILABLE_RESULT


def test_a_program_that_raises_has_that_as_its_result() -> None:
    store = ProgramStore(small_programs.Raising, lr=0.2)
    assert replay(request(store), store, DataCache()) == "failed: ArithmeticError"


def test_a_program_without_its_config_has_that_as_its_result() -> None:
    store = ProgramStore(small_programs.Small)
    assert replay(request(store), store, DataCache()) == "failed: KeyError"


def test_a_state_that_becomes_nan_has_that_as_its_result() -> None:
    store = ProgramStore(small_programs.Poisoned, poison="nan", metric=1.0)
    assert replay(request(store), store, DataCache()) == "failed: NotANumber"


def test_a_state_of_another_program_has_that_as_its_result() -> None:
    store = ProgramStore(small_programs.Averaged, lr=0.2)
    (other,) = work(ProgramStore(small_programs.Small, lr=0.2), small_programs.Small, 1)
    store.put_state(other.state_after, other.state)
    assert replay(request(store, other.state_after), store, DataCache()) == "failed: KeyError"


def test_a_verifier_signs_what_it_computed() -> None:
    store = ProgramStore(small_programs.Small, lr=0.2)
    (honest,) = work(store, small_programs.Small, 1)
    signed: list[tuple[str, str, str]] = []
    Verifier(store, lambda job, slot, result: signed.append((job, slot, result))).handle(
        request(store)
    )
    assert signed == [
        ("job", "job/t000/0/0", result_digest(honest.state_after, honest.metrics)),
    ]


class FakePool:
    """Fake verifier actors. Tests end their replays."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str, ReplayRequest]] = []
        self.running: set[tuple[str, str]] = set()
        self.closed_seats: set[tuple[str, str]] = set()
        self._ended: list[tuple[str, str]] = []

    def start(self, party: str, numerics: str, request: ReplayRequest) -> bool:
        if (party, numerics) in self.closed_seats:
            return False
        assert (party, request.slot) not in self.running
        self.started.append((party, numerics, request))
        self.running.add((party, request.slot))
        return True

    def ended(self) -> list[tuple[str, str]]:
        ended, self._ended = self._ended, []
        return ended

    def end(self, party: str, slot: str) -> None:
        self.running.remove((party, slot))
        self._ended.append((party, slot))

    def started_slots(self) -> list[str]:
        return [request.slot for _, _, request in self.started]


def audit(
    slot: str, party: str = "v1", numerics: str = "n1", *, urgent: bool = False
) -> dict[str, Any]:
    return {
        "job": "job",
        "slot": slot,
        "party": party,
        "numerics": numerics,
        "spec": f"spec of {slot}",
        "state_before": f"before {slot}",
        "urgent": urgent,
    }


def test_an_open_audit_is_sent_to_its_party_once() -> None:
    pool, waiting = FakePool(), [audit("s0")]
    auditor = Auditor(lambda: waiting, pool)
    for _ in range(3):
        auditor.turn()
    assert pool.started == [
        (
            "v1",
            "n1",
            ReplayRequest(job="job", slot="s0", spec="spec of s0", state_before="before s0"),
        )
    ]


def test_a_request_does_not_contain_the_claim() -> None:
    assert ReplayRequest.__slots__ == ("job", "slot", "spec", "state_before")


def test_a_seat_gets_no_more_than_it_can_hold() -> None:
    pool = FakePool()
    seats = [(party, numerics) for party in ("v1", "v2") for numerics in ("n1", "n2")]
    waiting = [audit(f"{seat}-{i}", *seat) for i in range(5) for seat in seats]
    auditor = Auditor(lambda: waiting, pool)
    for _ in range(3):
        auditor.turn()
    load = Counter((party, numerics) for party, numerics, _ in pool.started)
    assert load == dict.fromkeys(seats, IN_FLIGHT)


def test_the_next_audit_starts_when_one_was_answered() -> None:
    pool, waiting = FakePool(), [audit(f"s{i}") for i in range(IN_FLIGHT + 2)]
    auditor = Auditor(lambda: list(waiting), pool)
    auditor.turn()
    assert pool.started_slots() == ["s0"]
    del waiting[0]
    pool.end("v1", "s0")
    auditor.turn()
    assert pool.started_slots() == ["s0", "s1"]


def test_an_urgent_audit_is_next_and_no_third_one_is_handed_out() -> None:
    pool, waiting = FakePool(), [audit(f"s{i}") for i in range(3)]
    auditor = Auditor(lambda: list(waiting), pool)
    auditor.turn()
    waiting[:0] = [audit("u0", urgent=True), audit("u1", urgent=True)]
    auditor.turn()
    auditor.turn()
    assert pool.started_slots() == ["s0", "u0"]


def test_an_endless_stream_of_urgent_audits_does_not_starve_the_others() -> None:
    pool, others = FakePool(), [audit(f"s{i}") for i in range(3)]
    urgent = [audit(f"u{i}", urgent=True) for i in range(9)]
    auditor = Auditor(lambda: [*urgent, *others], pool)
    for _ in range(3):
        auditor.turn()
        for waiting in (others, urgent):
            pool.end("v1", waiting.pop(0)["slot"])
    assert not others
    assert len(urgent) == 6


def test_an_audit_that_ended_unanswered_is_started_again() -> None:
    pool = FakePool()
    auditor = Auditor(lambda: [audit("s0")], pool)
    auditor.turn()
    pool.end("v1", "s0")
    auditor.turn()
    auditor.turn()
    assert pool.started_slots() == ["s0", "s0"]


def test_an_audit_without_a_free_seat_is_tried_again() -> None:
    pool = FakePool()
    pool.closed_seats.add(("v1", "n1"))
    auditor = Auditor(lambda: [audit("s0"), audit("s1", "v2")], pool)
    auditor.turn()
    assert pool.started_slots() == ["s1"]
    pool.closed_seats.clear()
    auditor.turn()
    assert pool.started_slots() == ["s1", "s0"]


def test_verifier_and_referee_of_one_slot_both_get_it() -> None:
    pool = FakePool()
    auditor = Auditor(lambda: [audit("s0", "v1"), audit("s0", "v2")], pool)
    auditor.turn()
    assert pool.running == {("v1", "s0"), ("v2", "s0")}


def test_every_audit_is_answered_in_the_end() -> None:
    pool = FakePool()
    waiting = {f"s{i}": audit(f"s{i}", f"v{i % 3}") for i in range(40)}
    auditor = Auditor(lambda: list(waiting.values()), pool)
    for turn in range(200):
        auditor.turn()
        assert all(n <= IN_FLIGHT for n in Counter(party for party, _ in pool.running).values())
        for party, slot in sorted(pool.running)[: 1 + turn % 3]:
            pool.end(party, slot)
            if turn % 5:  # every fifth replay is lost
                del waiting[slot]
    assert waiting == {}


def test_a_bundle_that_raises_when_loaded_has_that_as_its_result() -> None:
    """Regression: an error while a bundle was loaded ended the verifier."""
    store = ProgramStore(small_programs.Small, lr=0.2)
    broken = Bundle(entry="P", source="raise RuntimeError\n", libraries={})
    store.put_bundle(broken)
    store.use(replace(store.spec, bundle=broken.digest, config={}))
    assert replay(request(store), store, DataCache()) == "failed: RuntimeError"
