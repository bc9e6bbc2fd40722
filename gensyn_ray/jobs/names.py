"""Names of a job's objects in the object store: its request, its summary, Ray's own files."""

from pyarrow import fs

from gensyn_ray.object_store.opening import open_files


def request_name(job: str) -> str:
    """The name of a job's request in the object store."""
    return f"{job}.request"


def result_name(job: str) -> str:
    """The name of a job's summary in the object store."""
    return f"{job}.result"


def runs_of(blobs_uri: str) -> tuple[fs.FileSystem, str]:
    """(file system, folder) of Tune's and Train's own files, by the object store's URI.

    Raises `UsageError`."""
    return open_files(blobs_uri, "runs")
