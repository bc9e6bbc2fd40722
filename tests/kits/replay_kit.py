"""A request for a replay, and the segments of an honest operator."""

from tests.kits.memory_store import ProgramStore
from verifier_actors.replay.replay import ReplayRequest
from workloads.core.program import Program
from workloads.core.segment import Computed, Runner
from workloads.numerics.arithmetic import arithmetic


def request(store: ProgramStore, state_before: str = "") -> ReplayRequest:
    return ReplayRequest(
        job="job", slot="job/t000/0/0", spec=store.spec.digest, state_before=state_before
    )


def work(store: ProgramStore, program: type[Program], segments: int) -> list[Computed]:
    """Compute and store segments, as an honest operator does."""
    one = program()
    runner = Runner(one, store.spec, one.load_data(), arithmetic)
    done = [runner.run_segment() for _ in range(segments)]
    for computed in done:
        store.put_state(computed.state_after, computed.state)
    return done
