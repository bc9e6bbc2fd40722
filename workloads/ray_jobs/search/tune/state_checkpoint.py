"""Tune checkpoints of a client, whose files are made from a stored state when they are read.

| file                  | content                                                             |
|-----------------------|---------------------------------------------------------------------|
| `config.json`         | the trial's config                                                  |
| `state.safetensors`   | everything that the next step depends on, under the state's names   |
| `NAME.safetensors`    | the `state_dict` of the program's module `NAME`, such as `model`    |
"""

import json
from typing import Any

from pyarrow import fs
from ray import tune

from workloads.ray_jobs.kind.interface import States
from workloads.ray_jobs.search.tune.read_only_folder import ReadOnlyFolder


class StateFolder(ReadOnlyFolder):
    """The files of one state. Fetches it at the first reading. `digest`: the state's."""

    protocol = "gensyn-state"

    def __init__(self, digest: str, config: dict[str, Any], states: States) -> None:
        super().__init__(digest)
        self._config, self._states = config, states
        self._made: dict[str, bytes] = {}

    def contents(self) -> dict[str, bytes]:
        if not self._made:
            from safetensors.torch import save

            from workloads.core.model_state import module_states

            state = self._states(self._folder)
            parts = {**module_states(state), "state": dict(state)}
            self._made = {f"{name}.safetensors": save(part) for name, part in parts.items()}
            self._made["config.json"] = json.dumps(self._config, indent=2, default=_plain).encode()
        return self._made


def state_checkpoint(digest: str, config: dict[str, Any], states: States) -> tune.Checkpoint:
    """The checkpoint of a state, by its digest. `states`: may raise `OperationError` when the
    checkpoint is read."""
    return tune.Checkpoint(
        digest, fs.PyFileSystem(fs.FSSpecHandler(StateFolder(digest, config, states)))
    )


def _plain(value: Any) -> Any:
    """A NumPy scalar of a search space as a Python number; anything else as text."""
    return value.item() if hasattr(value, "item") else str(value)
