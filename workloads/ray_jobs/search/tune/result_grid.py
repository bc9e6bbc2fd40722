"""Tune's own result of a job, in a client's process.

Needs no access to the head's folders or credentials.

Not defended: Tune's experiment state is a pickle. A member of the Ray cluster that answers in the
gateway's place can run code in the client's process, as any member can in the cluster's clients.
"""

from collections.abc import Mapping

from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import fs
from ray import tune

from workloads.ray_jobs.search.tune.trainable import SegmentTrainable

RESULTS = "/gensyn-ray/runs"


def grid_of(files: Mapping[str, bytes], job: str, metric: str, mode: str) -> tune.ResultGrid:
    """The result grid of a job, from Tune's own files, which are held in this process's memory.

    `files`: path below the folder of all runs -> content. `metric`, `mode`: what the grid ranks
    by."""
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
