"""`gensyn-ray vet`: looks for what would make honest replays of a program differ. Opens no job."""

from pathlib import Path
from typing import TYPE_CHECKING

from gensyn_ray.domain.errors import UsageError
from gensyn_ray.object_store.objects import Missing

if TYPE_CHECKING:
    from workloads.core.data_cache import Store
    from workloads.core.dataset import Manifest


def vet(job_file: Path, *, address: str = "auto", key_file: Path | None = None) -> None:
    """Check the program of a job file as its submission does, over whole segments.

    Args:
        job_file: A job file (`job.toml`). Its program runs here, with a config of its search space.
        address: The Ray head's address, for a job on prepared data. By default your local network
            (`gensyn-ray up`), or the cluster of this node.
        key_file: The submitter's key; created if it is missing.
    """
    from gensyn_ray.api import job_file as job_files
    from gensyn_ray.api.dry_run import dry_run
    from gensyn_ray.api.submission import submission_of

    if job_file.suffix != ".toml":
        raise UsageError(f"{job_file} is no job file (job.toml): docs/examples has some")
    spec = job_files.read(job_file)
    spec.check()
    store: Store = _network_store(address, key_file) if spec.terms.data else _NoStore()
    submission = submission_of(spec)
    metrics = dry_run(spec, submission, store, steps=spec.program.steps_per_segment)
    beside = f", with {', '.join(submission.bundle.modules)}" if submission.bundle.modules else ""
    print(f"{spec.program.__name__} replays; it travels as {submission.bundle.digest[:16]}{beside}")
    print(f"metrics: {', '.join(metrics)}")


class _NoStore:
    """The store of a program that has its own data."""

    def get_manifest(self, digest: str) -> "Manifest":
        raise Missing(f"no network is asked for {digest}")

    def get_data(self, digest: str) -> bytes:
        raise Missing(f"no network is asked for {digest}")


def _network_store(address: str, key_file: Path | None) -> "Store":
    from gensyn_ray.api.network import connect

    return connect(address, key_file=key_file).store
