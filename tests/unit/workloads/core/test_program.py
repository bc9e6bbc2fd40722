"""A replay of a segment from its stored predecessor has the bits of the original run."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, MultiplicativeLR

from gensyn_ray.object_store.blobs import Blobs, Missing
from tests.kits import small_programs
from workloads.core.bundle import Bundle
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.core.segment import RNG_KEY, STEP, Computed, Runner
from workloads.core.state import NotANumber, State, state_digest
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic

SPEC = TaskSpec(bundle="b" * 64, config={"lr": 0.2}, seed=11, task="t003")

each_program = pytest.mark.parametrize("program", small_programs.ALL)


def fresh(program: type[Program], spec: TaskSpec = SPEC) -> Runner:
    torch.rand(1)  # the global random state of a node must not matter
    one = program()
    return Runner(one, spec, one.load_data(), arithmetic)


def live(program: type[Program], segments: int, spec: TaskSpec = SPEC) -> list[Computed]:
    runner = fresh(program, spec)
    return [runner.run_segment() for _ in range(segments)]


@each_program
def test_a_segment_run_from_the_stored_state_is_the_one_run_live(program: type[Program]) -> None:
    lived = live(program, 4)
    assert len({one.state_after for one in lived}) == 4
    for before, after in pairwise(lived):
        runner = fresh(program)
        runner.load(before.state)
        again = runner.run_segment()
        assert again.state_after == after.state_after
        assert again.metrics == after.metrics


@each_program
def test_a_replay_can_go_on_for_several_segments(program: type[Program]) -> None:
    lived = live(program, 4)
    runner = fresh(program)
    runner.load(lived[0].state)
    assert [runner.run_segment().state_after for _ in range(3)] == [
        one.state_after for one in lived[1:]
    ]


@each_program
def test_the_object_store_keeps_a_state_to_the_bit(program: type[Program], tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    first, second = live(program, 2)
    blobs.put_state(first.state_after, first.state)
    stored = blobs.get_state(first.state_after)
    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        name: tensor.dtype for name, tensor in first.state.items()
    }
    runner = fresh(program)
    runner.load(stored)
    again = runner.run_segment()
    assert (again.state_after, again.metrics) == (second.state_after, second.metrics)


@each_program
def test_setting_the_state_that_was_got_changes_nothing(program: type[Program]) -> None:
    one = program()
    runner = Runner(one, SPEC, one.load_data(), arithmetic)
    runner.train(4)
    before = state_digest(one.get_state())
    one.set_state(one.get_state())
    assert state_digest(one.get_state()) == before
    other = program()
    Runner(other, SPEC, other.load_data(), arithmetic)
    other.set_state(one.get_state())
    assert state_digest(other.get_state()) == before
    assert set(other.get_state()) == set(one.get_state())


@each_program
def test_two_runners_with_one_spec_agree(program: type[Program]) -> None:
    assert [one.state_after for one in live(program, 2)] == [
        one.state_after for one in live(program, 2)
    ]


@each_program
def test_another_seed_task_or_config_gives_another_run(program: type[Program]) -> None:
    def spec(config: dict[str, float], seed: int, task: str) -> TaskSpec:
        return TaskSpec(bundle=SPEC.bundle, config=config, seed=seed, task=task)

    specs = [
        SPEC,
        spec({"lr": 0.2}, 12, "t003"),
        spec({"lr": 0.2}, 11, "t004"),
        spec({"lr": 0.3}, 11, "t003"),
    ]
    assert len({live(program, 1, one)[0].state_after for one in specs}) == 4


def test_steps_taken_one_by_one_are_the_segment() -> None:
    runner = fresh(small_programs.Dropout)
    for _ in range(3):
        runner.train(1)
    assert runner.finish().state_after == live(small_programs.Dropout, 1)[0].state_after


def test_a_returned_state_does_not_change_in_later_training() -> None:
    for program in small_programs.ALL:
        runner = fresh(program)
        first = runner.run_segment()
        runner.run_segment()
        assert state_digest(first.state) == first.state_after


def test_a_loaded_state_is_not_written_to() -> None:
    for program in small_programs.ALL:
        first = live(program, 1)[0]
        runner = fresh(program)
        runner.load(first.state)
        runner.run_segment()
        assert state_digest(first.state) == first.state_after


def test_a_state_has_the_step_and_the_random_key() -> None:
    runner = fresh(small_programs.Small)
    assert runner.segments_done == 0
    computed = runner.run_segment()
    assert int(computed.state[STEP]) == 3
    assert len(computed.state[RNG_KEY]) == 16
    other = fresh(small_programs.Small)
    other.load(computed.state)
    assert other.segments_done == 1


def test_torchs_global_random_state_does_not_matter() -> None:
    runner, digests = fresh(small_programs.Dropout), live(small_programs.Dropout, 2)
    runner.run_segment()
    torch.rand(17)
    assert runner.run_segment().state_after == digests[1].state_after


def test_a_state_with_nan_is_refused_by_the_tensors_name() -> None:
    config = {"poison": float("nan"), "metric": 1.0}
    spec = TaskSpec(bundle=SPEC.bundle, config=config, seed=1, task="t000")
    with pytest.raises(NotANumber, match=r"model/0\.weight"):
        fresh(small_programs.Poisoned, spec).run_segment()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_finite_is_refused_by_its_name(value: float) -> None:
    config = {"poison": 1.0, "metric": value}
    spec = TaskSpec(bundle=SPEC.bundle, config=config, seed=1, task="t000")
    with pytest.raises(ValueError, match="'score'"):
        fresh(small_programs.Poisoned, spec).run_segment()


def test_a_state_of_another_program_is_refused() -> None:
    state = live(small_programs.Small, 1)[0].state
    with pytest.raises(KeyError):
        fresh(small_programs.Averaged).load(state)
    with pytest.raises(KeyError):
        fresh(small_programs.Small).load({"model/0.weight": torch.zeros(6, 5)})


def test_the_object_store_keeps_every_kind_of_tensor(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    state = {
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "half": torch.tensor([1.5, -0.0], dtype=torch.bfloat16),
        "mask": torch.tensor([[True], [False]]),
        "view": torch.arange(6).reshape(2, 3).T,
        "shared": torch.arange(4.0).expand(3, 4),
    }
    digest = state_digest(state)
    blobs.put_state(digest, state)
    blobs.put_state(digest, state)  # twice is harmless
    back = blobs.get_state(digest)
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor), name
        assert back[name].dtype == tensor.dtype, name


def test_the_object_store_keeps_bundles_specs_and_files(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    bundle = Bundle(entry="P", source="x = 1\n", libraries={"torch": "2.13.0"})
    blobs.put_bundle(bundle)
    blobs.put_spec(SPEC)
    blobs.put_file("request", b"\x00\xff")
    other = Blobs(tmp_path.as_uri())
    assert other.get_bundle(bundle.digest) == bundle
    assert other.get_spec(SPEC.digest) == SPEC
    assert other.get_file("request") == b"\x00\xff"


def test_what_was_never_stored_is_missing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    for get in (blobs.get_state, blobs.get_bundle, blobs.get_spec, blobs.get_file):
        with pytest.raises(Missing):
            get("0" * 64)


def test_a_damaged_state_is_missing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    computed = live(small_programs.Small, 1)[0]
    blobs.put_state(computed.state_after, computed.state)
    path = tmp_path / "states" / computed.state_after
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:-1], b"\xff" * 16, whole[:-4] + b"\x00\x00\x80\x3f"):
        path.write_bytes(damaged)
        with pytest.raises(Missing):
            blobs.get_state(computed.state_after)
    path.write_bytes(whole)
    assert state_digest(blobs.get_state(computed.state_after)) == computed.state_after


def test_another_state_under_the_name_is_missing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    first, second = live(small_programs.Small, 2)
    blobs.put_state(first.state_after, second.state)
    with pytest.raises(Missing, match="another state"):
        blobs.get_state(first.state_after)


def test_another_bundle_or_spec_under_the_name_is_missing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    bundle = Bundle(entry="P", source="x = 1\n", libraries={})
    blobs.put_bundle(bundle)
    blobs.put_spec(SPEC)
    for kind, digest in (("bundles", bundle.digest), ("specs", SPEC.digest)):
        path = tmp_path / kind / digest
        path.write_bytes(path.read_bytes().replace(b"b", b"c"))
    with pytest.raises(Missing):
        blobs.get_bundle(bundle.digest)
    with pytest.raises(Missing):
        blobs.get_spec(SPEC.digest)


def test_no_reader_sees_half_an_object(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    blobs.put_file("a", b"one")
    blobs.put_file("a", b"two")
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["a"]


class Scheduled(small_programs.Small):
    """A program whose schedule computes rates from the step, or from the last rate."""

    def init(self, config: Config, data: State, rng: Rng) -> None:
        super().init(config, data, rng)
        self.asked: list[int] = []
        self.schedule = (
            MultiplicativeLR(self.optimizer, self.factor)
            if config.get("each from the last")
            else LambdaLR(self.optimizer, self.factor)
        )

    def factor(self, step: int) -> float:
        self.asked.append(step)
        return 1.0 / (1.0 + step)


@pytest.mark.parametrize("step", [0, 1, 700])
@pytest.mark.parametrize("chained", [False, True])
def test_a_round_begins_where_its_schedule_would_be(chained: bool, step: int) -> None:
    config, data = {"lr": 0.2, "each from the last": chained}, Scheduled().load_data()
    stepped, resumed = Scheduled(), Scheduled()
    for one in (stepped, resumed):
        one.init(config, data, Rng("init"))
    for _ in range(step):
        stepped.optimizer.step()
        stepped.schedule.step()
    already = len(resumed.asked)
    resumed.resume_at(step)
    for _ in range(3):
        assert resumed.schedule.get_last_lr() == stepped.schedule.get_last_lr()
        for one in (stepped, resumed):
            one.optimizer.step()
            one.schedule.step()
    if not chained:
        assert len(resumed.asked) - already <= 4, "not once for each step before"


class Line(Program):
    steps_per_segment, segments = 2, 2

    def load_data(self) -> Any:
        return {"x": torch.arange(3.0)}

    def init(self, config: Any, data: Any, rng: Any) -> None:
        self.w = torch.zeros(3, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.w], lr=0.1)

    def step(self, data: Any, rng: Any) -> None:
        self.optimizer.zero_grad()
        ((self.w - data["x"]) ** 2).sum().backward()
        self.optimizer.step()

    def evaluate(self, data: Any) -> Any:
        return {"sum": float(self.w.sum())}


def test_a_trained_tensor_attribute_replays() -> None:
    """Regression: `load` replaced a tensor of the optimizer by a copy."""
    spec = TaskSpec(bundle="b", config={}, seed=1, task="t000")
    live = Runner(Line(), spec, Line().load_data(), arithmetic)
    first, second = live.run_segment(), live.run_segment()
    again = Runner(Line(), spec, Line().load_data(), arithmetic)
    again.load(first.state)
    assert again.run_segment().state_after == second.state_after


class Forgetful(small_programs.Dropout):
    """`step` needs the training mode that `init` sets; `evaluate` changes the mode."""

    def step(self, data: dict[str, torch.Tensor], rng: Rng) -> None:
        is_training = self.model.training
        super().step(data, rng)
        assert is_training, "evaluate's mode reached the next segment"


def test_the_mode_that_evaluate_leaves_does_not_reach_the_next_segment() -> None:
    """Regression: the next segment started in the mode that `evaluate` had set."""
    program = Forgetful()
    spec = TaskSpec(bundle="b", config={"lr": 0.1}, seed=0, task="t")
    runner = Runner(program, spec, program.load_data(), arithmetic)
    for _ in range(2):
        runner.run_segment()
