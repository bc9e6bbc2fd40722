"""What a submitter's process makes of a job before it opens it: the bundle, the data, the spec."""

import inspect
from dataclasses import dataclass

from gensyn_ray.api.terms import JobSpec
from gensyn_ray.domain.errors import UsageError
from gensyn_ray.jobs.gateway import OBJECT_BYTES
from workloads.core import own_data
from workloads.core.bundle import Bundle, bundle_of
from workloads.core.data_cache import Store
from workloads.core.dataset import Manifest, Prepared
from workloads.core.program_errors import told_to_its_author
from workloads.core.task_spec import TaskSpec

MOST_BYTES = OBJECT_BYTES - (1 << 20)
"""The most bytes of a program's own data. The rest of an object is for the tensors' names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """`own`: the program's own data; None if the job names a prepared data set. `template`: the
    common part of the specs of all tasks."""

    bundle: Bundle
    own: Prepared | None
    template: TaskSpec


def submission_of(spec: JobSpec) -> Submission:
    """Bundle the program, and load its own data here, once for all nodes.

    Raises `UsageError` for a program that cannot travel or whose data are too large, and
    `ProgramFailed` for what `load_data` raises."""
    bundle = bundle_of(spec.program)
    own = None if spec.terms.data else own_data.pack(loaded(spec))
    template = TaskSpec(
        bundle=bundle.digest,
        config={},
        seed=spec.terms.seed,
        task="",
        numerics=spec.terms.numerics,
        data=own.manifest.digest if own else spec.terms.data,
    )
    return Submission(bundle=bundle, own=own, template=template)


def loaded(spec: JobSpec) -> own_data.Tensors:
    """The tensors of the program's `load_data`. Raises as `submission_of` does."""
    file = inspect.getsourcefile(inspect.unwrap(spec.program.load_data)) or ""
    with told_to_its_author(file):
        tensors = own_data.load(spec.program())
    if (size := own_data.size_of(tensors)) > MOST_BYTES:
        raise UsageError(
            f"{spec.program.__name__}.load_data gives {size / 2**20:,.0f} MiB, the limit is "
            f"{MOST_BYTES >> 20} MiB: use `gensyn-ray data prepare` for larger data"
        )
    return tensors


class WithOwnData:
    """A store that also has a submission's own data, before they are in the network's store."""

    def __init__(self, own: Prepared | None, store: Store) -> None:
        self._own, self._store = own, store

    def get_manifest(self, digest: str) -> Manifest:
        if self._own is not None and digest == self._own.manifest.digest:
            return self._own.manifest
        return self._store.get_manifest(digest)

    def get_data(self, digest: str) -> bytes:
        if self._own is not None and digest in self._own.blobs:
            return self._own.blobs[digest]
        return self._store.get_data(digest)
