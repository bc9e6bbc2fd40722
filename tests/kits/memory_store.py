"""The real `Blobs` on a dictionary. The contract of stores covers it, too."""

from dataclasses import replace
from typing import Any

from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.object_store.objects import Missing
from workloads.core import own_data
from workloads.core.bundle import bundle_of
from workloads.core.program import Program
from workloads.core.task_spec import TaskSpec


class MemoryObjects:
    """Implements `Objects`. `content`: the objects by key."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self.content[key] = data

    def get(self, key: str) -> bytes:
        if key not in self.content:
            raise Missing(f"the object store has no {key}")
        return self.content[key]


class MemoryStore(Blobs):
    """A store in memory."""

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        super().__init__(self.objects)

    def names(self, kind: str) -> list[str]:
        """The objects of a kind, in the order in which they were stored first."""
        keys = (key.split("/") for key in self.objects.content)
        return [name for found, name in keys if found == kind]

    def lose(self, kind: str) -> None:
        """Drop all objects of a kind."""
        for name in self.names(kind):
            del self.objects.content[f"{kind}/{name}"]


class ProgramStore(MemoryStore):
    """A store in memory with one program and one task's spec.

    `spec`: the spec of the task `t000`. `config`: its config.
    """

    def __init__(self, program: type[Program], *, numerics: str = "", **config: Any) -> None:
        super().__init__()
        self.bundle = bundle_of(program)
        self.put_bundle(self.bundle)
        own = own_data.pack(program().load_data())
        self.put_prepared(own)
        spec = TaskSpec(
            bundle=self.bundle.digest,
            config=config,
            seed=5,
            task="t000",
            data=own.manifest.digest,
        )
        self.use(replace(spec, numerics=numerics) if numerics else spec)

    def use(self, spec: TaskSpec) -> None:
        """Replays are of this spec from now on."""
        self.put_spec(spec)
        self.spec = spec
