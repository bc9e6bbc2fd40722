"""A lazy operator's node: returns plausible states without doing the steps.

Python imports this module at the start of every process of a node whose `PYTHONPATH` begins with
this folder. The application does not refer to it: it changes the node's software, as a real cheat
does.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

_TARGET = "workloads.core.segment"


def _make_lazy(module: ModuleType) -> None:
    import torch

    def train(self: object, steps: int, *_: object) -> None:
        state = self._program.get_state()
        noise = torch.Generator().manual_seed(self._step)
        for tensor in state.values():
            if tensor.is_floating_point() and tensor.dim() > 0:
                tensor.add_(1e-3 * torch.randn(tensor.shape, generator=noise))
        self._program.set_state(state)
        self._step += steps

    module.Runner.train = train


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the target module by the standard finders, and changes it once it is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name != _TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            _make_lazy(module)

        spec.loader.exec_module = load_and_change
        return spec


sys.meta_path.insert(0, _Finder())
