"""Re-executes one segment from its stored predecessor.

The replay is blind: its arguments name the program and the predecessor, not the claim. It runs the
operator's code (`workloads.core.segment`). Canonical arithmetic runs on any machine, pinned
numerics in a process of the operator's class.
"""

from collections.abc import Callable
from typing import Protocol

import torch

from gensyn_ray.domain.errors import OperationError, Unreachable
from gensyn_ray.domain.leaf import result_digest
from verifier_actors.core.outcome import UNAVAILABLE_RESULT
from verifier_actors.replay.request import ReplayRequest
from workloads.core.bundle import Bundle, load_program
from workloads.core.data_cache import DataCache
from workloads.core.dataset import Manifest
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic


class Store(Protocol):
    """Source of specs, bundles and states. A missing object raises `OperationError`."""

    def get_spec(self, digest: str) -> TaskSpec: ...
    def get_bundle(self, digest: str) -> Bundle: ...
    def get_state(self, digest: str) -> dict[str, torch.Tensor]: ...
    def get_manifest(self, digest: str) -> Manifest: ...
    def get_data(self, digest: str) -> bytes: ...


def replay(request: ReplayRequest, store: Store, cache: DataCache) -> str:
    """The result digest of the segment, or `UNAVAILABLE_RESULT` if its predecessor is lost.

    Raises `Unreachable` if the store does not answer. The segment then has no result yet.

    If the program raises in the replay, the result is `failed: <exception>`. The claimed segment
    cannot have been computed then, and a referee gets the same result.
    """
    try:
        spec = store.get_spec(request.spec)
        bundle = store.get_bundle(spec.bundle)
        state = store.get_state(request.state_before) if request.state_before else None
        inputs = {name: store.get_state(digest) for name, digest in spec.inputs.items()}
    except Unreachable:
        raise
    except OperationError:
        return UNAVAILABLE_RESULT
    try:
        program = load_program(bundle)()
        data = cache.get(spec, store)
        runner = Runner(program, spec, data, arithmetic, inputs)
        if state is not None:
            runner.load(state)
        computed = runner.run_segment()
    except Unreachable:
        raise
    except OperationError:
        return UNAVAILABLE_RESULT
    except Exception as error:  # any exception of the program is its result
        return f"failed: {type(error).__name__}"
    return result_digest(computed.state_after, computed.metrics)


class Verifier:
    """Replays on request and has its agent sign the result. Needs no Ray."""

    def __init__(self, store: Store, sign: Callable[[str, str, str], None]) -> None:
        self._store = store
        self._sign = sign
        self._cache = DataCache()

    def handle(self, request: ReplayRequest) -> None:
        """Replay and send the verdict: `sign(job, slot, result)`."""
        self._sign(request.job, request.slot, replay(request, self._store, self._cache))
