"""What a replay needs: a store in memory, a request, and the work of an honest operator."""

from typing import Any

import torch

from gensyn_ray.domain.errors import OperationError
from verifier_actors.replay.replay import ReplayRequest
from workloads.core.bundle import Bundle, bundle_of
from workloads.core.program import Program
from workloads.core.segment import Computed, Runner, TaskSpec
from workloads.core.state import State
from workloads.numerics.arithmetic import arithmetic


class FakeStore:
    """A store in memory, with everything that one program needs."""

    def __init__(self, program: type[Program], **config: Any) -> None:
        self.bundle = bundle_of(program)
        self.spec = TaskSpec(bundle=self.bundle.digest, config=config, seed=5, task="t000")
        self.bundles = {self.bundle.digest: self.bundle}
        self.specs = {self.spec.digest: self.spec}
        self.states: dict[str, State] = {}

    def get_spec(self, digest: str) -> TaskSpec:
        return self._of(self.specs, digest)

    def get_bundle(self, digest: str) -> Bundle:
        return self._of(self.bundles, digest)

    def get_state(self, digest: str) -> dict[str, torch.Tensor]:
        return dict(self._of(self.states, digest))

    def _of(self, kind: dict[str, Any], digest: str) -> Any:
        if digest not in kind:
            raise OperationError(f"there is no {digest}")
        return kind[digest]


def request(store: FakeStore, state_before: str = "") -> ReplayRequest:
    return ReplayRequest(
        job="job", slot="job/t000/0/0", spec=store.spec.digest, state_before=state_before
    )


def work(store: FakeStore, program: type[Program], segments: int) -> list[Computed]:
    """What an honest operator computes and stores."""
    one = program()
    runner = Runner(one, store.spec, one.load_data(), arithmetic)
    done = [runner.run_segment() for _ in range(segments)]
    store.states.update({computed.state_after: computed.state for computed in done})
    return done
