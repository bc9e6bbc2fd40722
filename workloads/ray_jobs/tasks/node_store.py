"""The object store, as a volunteer's node reaches it."""

from gensyn_ray.object_store.address import parse
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.object_store.grants import Grant, Method
from gensyn_ray.object_store.opening import is_bucket
from gensyn_ray.object_store.presigned import Presigned
from gensyn_ray.operators.agent_client import AgentClient


def store_of_node(uri: str, agent: AgentClient, *, job: str, trial: str) -> Blobs:
    """The object store at `uri`: a folder directly, a bucket by presigned links.

    The agent requests the links, for the objects of the task that `trial` runs."""
    if not is_bucket(uri):
        return Blobs(uri)

    def ask(method: Method, kind: str, digest: str) -> Grant:
        return agent.link(job=job, trial=trial, method=method, kind=kind, digest=digest)

    return Blobs(Presigned(ask, where=str(parse(uri))))
