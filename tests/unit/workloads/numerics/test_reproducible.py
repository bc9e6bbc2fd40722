"""In a reproducible job, one spec has one result on all machines."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import pytest
import torch

from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.leaf import result_digest
from gensyn_ray.domain.numerics import PINNED, REPRODUCIBLE, classes_in, pinned_class
from tests.kits import small_programs
from tests.kits.memory_store import ProgramStore
from tests.kits.other_processor import OTHER_CPU, PROGRAMS, results
from tests.kits.replay_kit import request
from verifier_actors.core.outcome import UNAVAILABLE_RESULT
from verifier_actors.replay.replay import replay
from workloads.core.data_cache import DataCache
from workloads.core.program import Program
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import MODES, arithmetic, served
from workloads.numerics.pinned import one_thread
from workloads.programs.digits import Digits

HIGH = "reproducible/v1/high"
REPLAY = """
import json, sys
import torch
from tests.kits.other_processor import PROGRAMS, results
torch.set_num_threads(int(sys.argv[1]))
found = {f"{p.__name__} {mode}": results(p, mode) for p in PROGRAMS for mode in sys.argv[2:]}
print(json.dumps(found))
"""


@pytest.fixture(autouse=True)
def _one_thread_here() -> Iterator[None]:
    """One thread: several threads are ten times slower on busy cores. The other processes of these
    tests run with one and with two."""
    with one_thread():
        yield


@cache
def results_elsewhere(threads: int, *modes: str) -> dict[str, list[str]]:
    """The results in a process restricted to SSE2."""
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, str(threads), *modes],
        env={**os.environ, **OTHER_CPU, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("mode", [REPRODUCIBLE, HIGH])
@pytest.mark.parametrize("program", PROGRAMS)
def test_another_processor_computes_the_same_results(
    program: type[Program], mode: str, threads: int
) -> None:
    there = results_elsewhere(threads, REPRODUCIBLE, HIGH)
    assert there[f"{program.__name__} {mode}"] == results(program, mode)


def test_the_control_pinned_results_differ_on_another_processor() -> None:
    there = results_elsewhere(1, PINNED)
    assert there[f"Small {PINNED}"] != results(small_programs.Small, PINNED)


def test_modes_are_different_arithmetic() -> None:
    found = {mode: tuple(results(small_programs.Small, mode)) for mode in MODES}
    assert len(set(found.values())) == len(MODES) == 3


def test_replay_runs_in_the_specs_own_mode() -> None:
    for mode in (REPRODUCIBLE, HIGH, PINNED):
        store = ProgramStore(small_programs.Dropout, lr=0.2, numerics=mode)
        first, second = small_computed(store)
        assert replay(request(store), store, DataCache()) == first
        assert replay(request(store, store_state(store)), store, DataCache()) == second


def small_computed(store: ProgramStore) -> list[str]:
    """An honest operator's results of two segments. Stores the first state."""
    one = small_programs.Dropout()
    runner = Runner(one, store.spec, one.load_data(), arithmetic)
    done = [runner.run_segment() for _ in range(2)]
    store.put_state(done[0].state_after, done[0].state)
    return [result_digest(computed.state_after, computed.metrics) for computed in done]


def store_state(store: ProgramStore) -> str:
    (digest,) = store.names("states")
    return digest


def test_a_verifier_without_the_version_gives_no_verdict() -> None:
    store = ProgramStore(small_programs.Small, lr=0.2, numerics="reproducible/v999/highest")
    assert replay(request(store), store, DataCache()) == UNAVAILABLE_RESULT


def test_an_operator_without_a_definition_fails_every_replay_alike() -> None:
    store = ProgramStore(small_programs.Adam, lr=0.2, numerics=REPRODUCIBLE)
    assert replay(request(store), store, DataCache()) == "failed: NonCanonicalOperator"


def test_only_pinned_mode_sets_one_thread_and_restores_the_number() -> None:
    torch.set_num_threads(2)
    with arithmetic(PINNED):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with arithmetic(REPRODUCIBLE):
        assert torch.get_num_threads() == 2


FUSED_STEP = """
import torch
from workloads.numerics.optim import AdamW
from workloads.numerics.pinned import one_thread
weight = torch.nn.Parameter(torch.ones(8))
weight.grad = torch.ones(8)
with one_thread():
    AdamW([weight], lr=0.1).step()
    print(torch.get_num_threads())
"""


def test_the_first_kernel_of_a_process_leaves_torch_on_one_thread() -> None:
    """Regression: numba's OpenMP sets torch's number of threads at its start. A program in pinned
    mode continued with two threads, with other bits, and hundreds of times slower under load."""
    done = subprocess.run(
        [sys.executable, "-c", FUSED_STEP],
        env={**os.environ, "OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1"]


def test_unknown_numerics_are_refused_with_those_there_are() -> None:
    for name in ("", "native", "reproducible", "reproducible/v1/low", "reproducible/v0/high"):
        with pytest.raises(OperationError, match=REPRODUCIBLE):
            arithmetic(name)


def test_a_node_serves_what_it_joined_with() -> None:
    joined = ",".join(["c0ffee", *served(1)])
    assert classes_in(joined, PINNED) == ["c0ffee"]
    assert classes_in(joined, REPRODUCIBLE) == [REPRODUCIBLE]
    assert classes_in("c0ffee", REPRODUCIBLE) == []
    assert classes_in("", PINNED) == []
    assert pinned_class(joined) == "c0ffee"
    assert pinned_class(REPRODUCIBLE) == ""


def test_the_digits_program_learns_in_every_mode() -> None:
    class Short(Digits):
        steps_per_segment = 60

    accuracy: dict[str, float] = {}
    for mode in MODES:
        one = Short()
        config = {"lr": 0.1, "momentum": 0.9, "width": 8}
        spec = TaskSpec(bundle="b" * 64, config=config, seed=1, task="t000", numerics=mode)
        computed = Runner(one, spec, one.load_data(), arithmetic).run_segment()
        accuracy[mode] = computed.metrics["accuracy"]
    assert min(accuracy.values()) > 0.75
    assert max(accuracy.values()) - min(accuracy.values()) < 0.1
