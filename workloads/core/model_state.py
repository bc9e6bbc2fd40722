"""The modules in a stored state, as torch writes their `state_dict`. Runs none of a program's code.

A state has flat names: `model/0.weight`, `optimizer/param_groups/0/lr`, `average`. The first part
is the program's attribute. Optimizers and schedulers are known by what torch always stores of them.

Not covered: a float64 module without a matrix, which looks like the program's own numbers. A module
with a slash in its names, or with an unsaved buffer that a step changes: `load_state_dict` refuses
its state. A DiLoCo global state has parameters only, no buffers.
"""

import torch

from workloads.core import diloco
from workloads.core.state import State

PROGRESS = "progress"
"""The first part of the runner's own names in a state."""
_MARKS = ("/param_groups/", "/_last_lr/")
"""What stands in the names of every optimizer, and of every learning-rate scheduler."""


def module_states(state: State) -> dict[str, dict[str, torch.Tensor]]:
    """Attribute -> `state_dict` of each module in a program's state, or in a DiLoCo global state.

    `module.load_state_dict` takes it with `strict=True`. Slashes in its names become dots: a dict
    of modules is like a `nn.ModuleDict`, and the keys of a `nn.ParameterDict`, in which torch
    forbids dots, are the names of a whole model again."""
    own = diloco.parameters_of(state) if diloco.is_global(state) else state
    others = tuple(name.partition(mark)[0] + "/" for name in own for mark in _MARKS if mark in name)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in own.items():
        attribute, slash, path = name.partition("/")
        # The runner's other names, such as `parameters.grad`, are no attributes.
        is_attribute = slash and "." not in attribute and attribute != PROGRESS
        if is_attribute and not name.startswith(others):
            parts.setdefault(attribute, {})[path.replace("/", ".")] = tensor
    return {name: part for name, part in parts.items() if not all(map(_is_numbers, part.values()))}


def _is_numbers(tensor: torch.Tensor) -> bool:
    """Whether it looks like a number of the program's own, or a list of these."""
    return tensor.dim() < 2 and tensor.dtype in (torch.bool, torch.int64, torch.float64)
