"""Where the object store keeps what belongs to one job: request, summary, Tune's own files."""

from pyarrow import fs

from gensyn_ray.object_store.opening import open_files

FAILED = "failed"
"""How a summary calls the end of a job that failed."""


def request_name(job: str) -> str:
    """The name of a job's request in the object store."""
    return f"{job}.request"


def result_name(job: str) -> str:
    """The name of a job's summary in the object store."""
    return f"{job}.result"


def runs_of(blobs_uri: str) -> tuple[fs.FileSystem, str]:
    """Where Tune and Train keep their own files. Raises `UsageError`."""
    return open_files(blobs_uri, "runs")
