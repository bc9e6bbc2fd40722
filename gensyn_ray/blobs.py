"""The network's object store: bytes under the digest of what they hold.

Over `pyarrow.fs`, so that one URI names a directory (`file:///...`) or a bucket (`s3://...`). A
reader always checks the digest of what it got, so the store itself needs no trust for integrity.

Not covered yet: presigned access, so nodes on other hosts need the store's own credentials. Not
defended: a store that loses what it took (the audit is then UNAVAILABLE), or members of the cluster
who list it.
"""

import secrets
from typing import Any

import safetensors.torch
import torch
from pyarrow import fs

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.records import from_json, to_json
from workloads.core.bundle import Bundle
from workloads.core.dataset import Manifest, Prepared
from workloads.core.segment import TaskSpec
from workloads.core.state import State, state_digest


class Missing(OperationError):
    """The store has nothing under that name, or something else than the name says."""


class Blobs:
    """States, bundles and specs by digest; writing the same thing twice is harmless."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._fs, self._root = fs.FileSystem.from_uri(uri)

    def put_state(self, digest: str, state: State) -> None:
        """Store a state under the digest that its owner computed."""
        plain = {name: tensor.contiguous() for name, tensor in state.items()}
        self._put("states", digest, safetensors.torch.save(plain))

    def get_state(self, digest: str) -> dict[str, torch.Tensor]:
        """A state whose digest was checked. Raises `Missing`."""
        try:
            state = safetensors.torch.load(self._get("states", digest))
            found = state_digest(state)
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise Missing(f"state {digest[:12]} is damaged: {error}") from None
        if found != digest:
            raise Missing(f"what is stored as state {digest[:12]} is another state")
        return state

    def put_bundle(self, bundle: Bundle) -> None:
        self._put("bundles", bundle.digest, canonical.encode(to_json(bundle)))

    def get_bundle(self, digest: str) -> Bundle:
        """A bundle whose digest was checked. Raises `Missing`."""
        return from_json(Bundle, self._get_json("bundles", digest))

    def put_spec(self, spec: TaskSpec) -> None:
        self._put("specs", spec.digest, canonical.encode(to_json(spec)))

    def get_spec(self, digest: str) -> TaskSpec:
        """A spec whose digest was checked. Raises `Missing`."""
        return from_json(TaskSpec, self._get_json("specs", digest))

    def put_prepared(self, prepared: Prepared) -> None:
        """Store a data set: everything that its manifest names, then the manifest."""
        for digest, data in prepared.blobs.items():
            self._put("data", digest, data)
        manifest = prepared.manifest
        self._put("manifests", manifest.digest, canonical.encode(to_json(manifest)))

    def get_manifest(self, digest: str) -> Manifest:
        """A data set's manifest whose digest was checked. Raises `Missing`."""
        return from_json(Manifest, self._get_json("manifests", digest))

    def get_data(self, digest: str) -> bytes:
        """A shard or file of a data set; `DataSet` checks its digest. Raises `Missing`."""
        return self._get("data", digest)

    def put_file(self, name: str, data: bytes) -> None:
        """Store bytes under a name of their own (a job's request): no digest protects it."""
        self._put("files", name, data)

    def get_file(self, name: str) -> bytes:
        """Bytes stored by `put_file`. Raises `Missing`."""
        return self._get("files", name)

    def _get_json(self, kind: str, digest: str) -> dict[str, Any]:
        try:
            value = canonical.decode(self._get(kind, digest))
        except canonical.NotCanonical as error:
            raise Missing(f"{kind} {digest[:12]} is damaged: {error}") from None
        if canonical.digest(value) != digest:
            raise Missing(f"what is stored as {kind} {digest[:12]} is something else")
        return value

    def _put(self, kind: str, name: str, data: bytes) -> None:
        folder = f"{self._root}/{kind}"
        self._fs.create_dir(folder, recursive=True)
        # A reader sees the whole object or none: written aside, then moved into place.
        aside = f"{folder}/.{name}.{secrets.token_hex(4)}"
        with self._fs.open_output_stream(aside) as stream:
            stream.write(data)
        self._fs.move(aside, f"{folder}/{name}")

    def _get(self, kind: str, name: str) -> bytes:
        try:
            with self._fs.open_input_stream(f"{self._root}/{kind}/{name}") as stream:
                return stream.read()
        except FileNotFoundError:
            raise Missing(f"the object store has no {kind} {name[:16]}") from None
