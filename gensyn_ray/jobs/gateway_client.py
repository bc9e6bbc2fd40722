"""The client's side of the job desk: its objects, and Tune's result made from what it sends.

Needs Ray and nothing else of the head's: neither its folders nor its credentials.

Not defended: Tune's experiment state is a pickle. Whoever can answer in the desk's place can run
code in the client's process, as any member of a Ray cluster can in its clients.
"""

from collections.abc import Mapping
from typing import Any

import ray
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import fs
from ray import tune
from ray.exceptions import GetTimeoutError, RayActorError

from gensyn_ray.domain.errors import Refused, Unreachable, UsageError
from gensyn_ray.jobs.gateway import OBJECT_BYTES
from gensyn_ray.object_store.objects import Missing
from workloads.ray_jobs.search.tune.trainable import SegmentTrainable

ANSWER_S = 60.0
TRANSFER_S = 600.0
"""For a whole object, over a slow line."""
RESULTS = "/gensyn-ray/runs"


def ask(answer: Any, *, timeout_s: float = ANSWER_S) -> Any:
    """What a control actor answers. Raises `Unreachable` if it died or the connection is lost, and
    `Refused` if the answer is a refusal."""
    try:
        value: Any = ray.get(answer, timeout=timeout_s)
    except (RayActorError, GetTimeoutError, ConnectionError) as error:
        raise Unreachable(
            f"the network's head does not answer ({type(error).__name__}): connect again"
        ) from None
    if isinstance(value, dict) and "refused" in value:
        raise Refused(str(value["refused"]), str(value.get("detail", "")))
    return value


class GatewayObjects:
    """The network's objects, through its desk. Implements `Objects`; `desk` is the actor."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk

    def put(self, key: str, data: bytes) -> None:
        """Raises `UsageError` for what the desk would find too large, and `Refused`."""
        if len(data) > OBJECT_BYTES:
            raise UsageError(
                f"{key} has {len(data):,} bytes and clients may store {OBJECT_BYTES:,} at once: "
                "cut it, or store it on the head (`gensyn-ray data prepare --store`)"
            )
        ask(self._desk.put.remote(key, data), timeout_s=TRANSFER_S)

    def get(self, key: str) -> bytes:
        found = ask(self._desk.get.remote(key), timeout_s=TRANSFER_S)
        if found is None:
            raise Missing(f"the network's object store has no {key}")
        return found


def grid_of(files: Mapping[str, bytes], job: str, metric: str, mode: str) -> tune.ResultGrid:
    """Tune's own result of a job, from Tune's own files, which stay in this process's memory."""
    memory = MemoryFileSystem()
    for path, content in files.items():
        memory.makedirs(f"{RESULTS}/{path}".rpartition("/")[0], exist_ok=True)
        memory.pipe_file(f"{RESULTS}/{path}", content)
    _ = SegmentTrainable  # unpickling the trials needs the class
    analysis = tune.ExperimentAnalysis(
        f"{RESULTS}/{job}",
        storage_filesystem=fs.PyFileSystem(fs.FSSpecHandler(memory)),
        trials=None,
        default_metric=metric,
        default_mode=mode,
    )
    return tune.ResultGrid(analysis)
