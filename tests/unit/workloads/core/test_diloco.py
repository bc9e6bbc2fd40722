"""DiLoCo: pseudo-gradients, the outer step, and both as segments that replay."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_ray.domain import canonical
from gensyn_ray.domain.records import from_json, to_json
from tests.kits.small_programs import Small
from workloads.core import diloco
from workloads.core.segment import Runner
from workloads.core.state import NotANumber, state_digest
from workloads.core.task_spec import InnerSteps, OuterStep, TaskSpec
from workloads.numerics.arithmetic import arithmetic


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def globals_of(*tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return diloco.first_global({f"w{at}": one for at, one in enumerate(tensors)})


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_eight_bits_are_off_by_half_a_level_of_their_row(seed: int, rows: int, width: int) -> None:
    start, end = {"w": drawn(seed, rows, width)}, {"w": drawn(seed + 1, rows, width)}
    exact = (start["w"] - end["w"]).numpy()
    assert (diloco.decoded(diloco.pseudo_gradient(start, end, 32))["w"] == exact).all()
    coarse = diloco.decoded(diloco.pseudo_gradient(start, end, 8))["w"]
    level = np.abs(exact).max(axis=1, keepdims=True) / 127
    assert (np.abs(coarse - exact) <= level * 0.501).all()


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4), (0,)])
def test_a_pseudo_gradient_keeps_its_shape(shape: tuple[int, ...]) -> None:
    start, end = {"w": drawn(1, *shape)}, {"w": drawn(2, *shape)}
    for bits in (8, 32):
        assert diloco.decoded(diloco.pseudo_gradient(start, end, bits))["w"].shape == shape
    same = diloco.decoded(diloco.pseudo_gradient(start, start, 8))["w"]
    assert not same.any()


def test_other_widths_than_8_and_32_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="8 or 32"):
        diloco.pseudo_gradient({}, {}, 4)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("bits", [8, 32])
def test_steps_that_diverged_are_named_and_not_sent(wrong: float, bits: int) -> None:
    start, end = {"w": drawn(1, 3, 4)}, {"w": drawn(2, 3, 4)}
    end["w"][1, 2] = wrong
    with pytest.raises(NotANumber, match="'w' is not finite"):
        diloco.pseudo_gradient(start, end, bits)


def test_the_outer_step_is_torchs_nesterov_on_the_weighted_mean() -> None:
    start = drawn(0, 4, 3)
    stock = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([stock], lr=0.7, momentum=0.9, nesterov=True)
    state = globals_of(start)
    for step in range(3):
        ends = [drawn(10 * step + worker, 4, 3) for worker in (1, 2, 3)]
        weights = [5, 1, 2]
        now = diloco.parameters_of(state)
        gradients = [diloco.pseudo_gradient(now, {"w0": end}, 32) for end in ends]
        mean = sum(w * (now["w0"] - end) for w, end in zip(weights, ends, strict=True)) / 8
        state = diloco.outer_step(state, gradients, weights, lr=0.7, momentum=0.9)
        stock.grad = torch.as_tensor(mean)
        optimizer.step()
        # Both start each step from the same state, so only the roundings of this step differ.
        assert torch.allclose(diloco.parameters_of(state)["w0"], stock.detach(), atol=1e-5)


def test_equal_ends_with_rate_1_and_no_momentum_are_taken_over() -> None:
    start, end = drawn(1, 3), drawn(2, 3)
    state = globals_of(start)
    gradients = [diloco.pseudo_gradient({"w0": start}, {"w0": end}, 32)] * 3
    after = diloco.outer_step(state, gradients, [1, 1, 1], lr=1.0, momentum=0.0)
    assert torch.allclose(diloco.parameters_of(after)["w0"], end, atol=1e-6)


@pytest.mark.parametrize("weights", [[], [0], [3, -1]])
def test_invalid_weights_are_refused(weights: list[int]) -> None:
    state = globals_of(drawn(0, 2))
    start = diloco.parameters_of(state)
    gradients = [diloco.pseudo_gradient(start, start, 32) for _ in weights]
    with pytest.raises(ValueError, match="positive weight"):
        diloco.outer_step(state, gradients, weights, lr=1.0, momentum=0.0)


def spoilt(packed: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Possible messages of a hostile worker, in place of the 8-bit pseudo-gradient of a matrix."""
    name, scale = "change/w0", "scale/w0"
    return [
        {},
        {**packed, "change/other": packed[name]},
        {name: packed[name]},
        {**packed, name: packed[name][:, :1]},
        {**packed, name: packed[name].to(torch.int16)},
        {**packed, scale: packed[scale][:1]},
        {**packed, scale: torch.full_like(packed[scale], torch.inf)},
        {**packed, scale: packed[scale].to(torch.float64)},
        {name: torch.full((4, 3), -torch.inf)},
    ]


@pytest.mark.parametrize("at", range(9))
def test_a_pseudo_gradient_that_does_not_fit_is_left_out(at: int) -> None:
    state = globals_of(drawn(0, 4, 3))
    good = diloco.pseudo_gradient(diloco.parameters_of(state), {"w0": drawn(1, 4, 3)}, 8)
    bad = spoilt(good)[at]
    alone = diloco.outer_step(state, [good], [5], lr=0.7, momentum=0.9)
    beside = diloco.outer_step(state, [bad, good, bad], [2, 5, 9], lr=0.7, momentum=0.9)
    assert state_digest(beside) == state_digest(alone)
    assert state_digest(diloco.outer_step(state, [bad], [1], lr=0.7, momentum=0.9)) == state_digest(
        state
    )


# -- as segments ---------------------------------------------------------------------------------


def runner(task: str, inputs: Any, **part: Any) -> Runner:
    spec = TaskSpec(
        bundle="",
        config={"lr": 0.1},
        seed=3,
        task=task,
        inputs={name: state_digest(state) for name, state in inputs.items()},
        **part,
    )
    program = Small()
    return Runner(program, spec, program.load_data(), arithmetic, inputs)


def test_a_run_of_rounds_replays_part_by_part() -> None:
    ends: list[str] = []
    for _ in range(2):
        first = runner(
            "begin", {}, outer_step=OuterStep(weights={}, lr=0.7, momentum=0.9)
        ).run_segment()
        assert set(diloco.parameters_of(first.state))
        made = [
            runner(
                f"w{number}",
                {"global": first.state},
                inner_steps=InnerSteps(steps=steps, first_step=0, bits=8),
            ).run_segment()
            for number, steps in enumerate((3, 5))
        ]
        assert made[0].state_after != made[1].state_after, "each worker has data of its own"
        step = OuterStep(weights={"a": 3, "b": 5}, lr=0.7, momentum=0.9)
        inputs = {"global": first.state, "a": made[0].state, "b": made[1].state}
        merged = runner("merge", inputs, outer_step=step).run_segment()
        assert merged.state_after != first.state_after
        assert merged.metrics
        assert not any(one.metrics for one in made), "the outer step evaluates"
        ends.append(merged.state_after)
    assert ends[0] == ends[1]


def test_inner_steps_store_their_pseudo_gradient_and_nothing_of_the_optimizer() -> None:
    first = runner(
        "begin", {}, outer_step=OuterStep(weights={}, lr=0.7, momentum=0.9)
    ).run_segment()
    part = InnerSteps(steps=2, first_step=7, bits=8)
    one = runner("w0", {"global": first.state}, inner_steps=part)
    assert one.segments == 1
    state = one.run_segment().state
    assert int(state["progress/step"]) == 9
    kinds = {name.split("/")[0] for name in state}
    assert kinds == {"change", "scale", "progress"}
    assert one.segments_done == 1


def test_specs_survive_json() -> None:
    for part in (
        {"inner_steps": InnerSteps(steps=3, first_step=6, bits=8)},
        {
            "outer_step": OuterStep(
                weights={"pseudo-gradient-000": 3, "pseudo-gradient-001": 5}, lr=0.7, momentum=0.9
            )
        },
    ):
        spec = TaskSpec(
            bundle="b",
            config={"lr": 0.1},
            seed=1,
            task="t",
            data="d",
            inputs={"global": "g"},
            **part,
        )
        again = from_json(TaskSpec, canonical.decode(canonical.encode(to_json(spec))))
        assert again == spec
        assert again.digest == spec.digest
