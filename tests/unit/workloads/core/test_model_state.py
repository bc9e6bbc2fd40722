"""The modules in a state, as torch's own `state_dict`."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.kits import small_programs, stateful_programs
from workloads.core import diloco
from workloads.core.model_state import module_states
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic


def state_of(program: Program) -> dict[str, torch.Tensor]:
    spec = TaskSpec(bundle="b", config={"lr": 0.1}, seed=3, task="t000")
    return Runner(program, spec, program.load_data(), arithmetic).run_segment().state


class Two(small_programs.Small):
    """Two modules, and schedulers of other kinds."""

    def init(self, config: Config, data: Any, rng: Rng) -> None:
        super().init(config, data, rng)
        self.critic = nn.ModuleDict({"a": nn.Linear(2, 2)})
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer)
        self.chained = torch.optim.lr_scheduler.ChainedScheduler(
            [torch.optim.lr_scheduler.StepLR(self.optimizer, 2)]
        )


@pytest.mark.parametrize("kind", [*small_programs.ALL, Two])
def test_torch_loads_each_module_strictly(kind: type[Program]) -> None:
    program: Any = kind()
    found = module_states(state_of(program))
    held = {name: one for name, one in vars(program).items() if isinstance(one, nn.Module)}
    assert set(found) == set(held), "no optimizer, scheduler, tensor or progress"
    for name, module in held.items():
        expected = {path: tensor.clone() for path, tensor in module.state_dict().items()}
        for tensor in module.state_dict().values():
            tensor.zero_()
        module.load_state_dict(found[name], strict=True)
        for path, tensor in module.state_dict().items():
            assert torch.equal(tensor, expected[path])


def test_modules_in_a_dict_are_like_a_module_dict() -> None:
    program = stateful_programs.Parts()
    found = module_states(state_of(program))
    assert set(found) == {"parts"}, "no optimizer and no schedule in a list"
    nn.ModuleDict(program.parts).load_state_dict(found["parts"], strict=True)


def test_an_average_in_a_dict_is_like_its_models_state() -> None:
    program = stateful_programs.Averages()
    found = module_states(state_of(program))
    assert set(found) == {"model", "average"}, "no numbers"
    program.model.load_state_dict(found["average"], strict=True)


def test_gradients_and_late_tensors_are_in_no_module() -> None:
    for kind in (stateful_programs.Accumulating, stateful_programs.Thawing, stateful_programs.Late):
        program = kind()
        found = module_states(state_of(program))
        program.model.load_state_dict(found.pop("model"), strict=True)
        assert not found


def test_a_dictionary_of_parameters_has_the_dots_of_its_models_names() -> None:
    state = {
        "adapter/base/layer/0/lora_A": torch.ones(1),
        "optimizer/param_groups/0/lr": torch.ones(1),
    }
    assert module_states(state) == {"adapter": {"base.layer.0.lora_A": torch.ones(1)}}


def test_a_global_state_has_the_parameters() -> None:
    program = small_programs.Small()
    state_of(program)
    found = module_states(diloco.first_global(program.parameters()))
    assert set(found) == {"model"}
    program.model.load_state_dict(found["model"], strict=True)
