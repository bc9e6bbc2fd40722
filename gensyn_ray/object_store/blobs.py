"""The network's object store: typed objects under their digests.

One URI names the store, a folder (`file:///...`) or a bucket (`s3://...`); see
`object_store.address`. Readers check digests, so the store is not trusted for integrity.

Processes of the network open the store by its URI with their own credentials. Volunteers have no
credentials; for a bucket they use `Blobs(Presigned(...))`, see `object_store.presigned`.

Imports torch only to store or read a state: most processes read specs and bundles alone.

Not defended: a store that loses objects (the audit is then UNAVAILABLE); members of the cluster
that list a shared folder.
"""

from typing import TYPE_CHECKING, Any

import safetensors

from gensyn_ray.domain import canonical
from gensyn_ray.domain.records import from_json, to_json
from gensyn_ray.object_store.objects import Missing, Objects
from gensyn_ray.object_store.opening import open_objects
from workloads.core.bundle import Bundle
from workloads.core.dataset import Manifest, Prepared
from workloads.core.task_spec import TaskSpec

if TYPE_CHECKING:
    import torch

    from workloads.core.state import State


class Blobs:
    """States, bundles, specs, data sets and named files. Writing an object twice is safe.

    The constructor raises `UsageError` for a URI that names no store. Each method raises
    `OperationError` if the store refuses and `Unreachable` if it does not answer.
    """

    def __init__(self, place: str | Objects) -> None:
        """`place`: the store's URI, or an opened store."""
        self._objects = open_objects(place) if isinstance(place, str) else place

    def put_state(self, digest: str, state: "State") -> None:
        """Store a state (tensors by name) under its digest."""
        from safetensors.torch import save

        plain = {name: tensor.contiguous() for name, tensor in state.items()}
        self._objects.put(f"states/{digest}", save(plain))

    def get_state(self, digest: str) -> "dict[str, torch.Tensor]":
        """The state of a digest, which is checked. Raises `Missing`."""
        from safetensors.torch import load

        from workloads.core.state import state_digest

        try:
            state = load(self._objects.get(f"states/{digest}"))
            found = state_digest(state)
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise Missing(f"state {digest[:12]} is damaged: {error}") from None
        if found != digest:
            raise Missing(f"what is stored as state {digest[:12]} is another state")
        return state

    def put_bundle(self, bundle: Bundle) -> None:
        self._objects.put(f"bundles/{bundle.digest}", canonical.encode(bundle.to_json()))

    def get_bundle(self, digest: str) -> Bundle:
        """The bundle of a digest, which is checked. Raises `Missing`."""
        return from_json(Bundle, self._get_json("bundles", digest))

    def put_spec(self, spec: TaskSpec) -> None:
        self._objects.put(f"specs/{spec.digest}", canonical.encode(to_json(spec)))

    def get_spec(self, digest: str) -> TaskSpec:
        """The spec of a digest, which is checked. Raises `Missing`."""
        return from_json(TaskSpec, self._get_json("specs", digest))

    def put_prepared(self, prepared: Prepared) -> None:
        """Store a data set: its shards and files, then its manifest."""
        for digest, data in prepared.blobs.items():
            self._objects.put(f"data/{digest}", data)
        manifest = prepared.manifest
        self._objects.put(f"manifests/{manifest.digest}", canonical.encode(to_json(manifest)))

    def get_manifest(self, digest: str) -> Manifest:
        """The manifest of a digest, which is checked. Raises `Missing`."""
        return from_json(Manifest, self._get_json("manifests", digest))

    def get_data(self, digest: str) -> bytes:
        """A shard or file of a data set, unchecked; `DataSet` checks it. Raises `Missing`."""
        return self._objects.get(f"data/{digest}")

    def put_file(self, name: str, data: bytes) -> None:
        """Store bytes under a name, such as a job's request. No digest protects them."""
        self._objects.put(f"files/{name}", data)

    def get_file(self, name: str) -> bytes:
        """Bytes stored by `put_file`. Raises `Missing`."""
        return self._objects.get(f"files/{name}")

    def _get_json(self, kind: str, digest: str) -> dict[str, Any]:
        try:
            value = canonical.decode(self._objects.get(f"{kind}/{digest}"))
        except canonical.NotCanonical as error:
            raise Missing(f"{kind} {digest[:12]} is damaged: {error}") from None
        if canonical.digest(value) != digest:
            raise Missing(f"what is stored as {kind} {digest[:12]} is something else")
        return value
