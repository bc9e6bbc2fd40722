"""What a Ray worker may ask of the agent on its host: one record for each request.

    POST /identity  {}              -> Identity
    POST /task      TaskRequest     -> the task's row; see `gensyn_ray.queries`
    POST /slot      Slot            -> {}
    POST /commit    CommitRequest   -> the network's receipt
    POST /verdict   VerdictRequest  -> {}
    POST /link      LinkRequest     -> Grant

Errors have the shapes of `gensyn_ray.runtime.http_answers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from gensyn_ray.domain import canonical, records
from gensyn_ray.object_store.grants import Method

T = TypeVar("T")

NAME_LIMIT = 256
"""Characters of a job's or trial's name: names become part of a URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`party`: id of the agent's key. `role`: operator or verifier. `numerics`: the classes that
    the node joined with, separated by commas."""

    party: str
    role: str
    numerics: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRequest:
    """Asks whose key the agent holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """Asks for the task that a trial runs now. Raises `ValueError` for a name that is too long."""

    job: str
    trial: str

    def __post_init__(self) -> None:
        _check_names(self.job, self.trial)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """Asks to sign and send a leaf, as JSON."""

    leaf: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRequest:
    """Asks to sign and send the result of a replay. `result` is a digest, or what went wrong."""

    job: str
    slot: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRequest:
    """Asks for a presigned link to one object of a trial's task. Raises `ValueError` for a name
    that is too long."""

    job: str
    trial: str
    method: Method
    kind: str
    digest: str

    def __post_init__(self) -> None:
        _check_names(self.job, self.trial, self.kind, self.digest)


def parse_request(kind: type[T], value: Any) -> T:
    """The request that a JSON value spells.

    Raises `ValueError` for another shape, and for values that cannot be signed because they have no
    canonical JSON, such as text with lone surrogates.
    """
    if not isinstance(value, Mapping):
        raise records.BadRecord(f"{kind.__name__} is a JSON object")
    fields = cast("Mapping[str, Any]", value)
    canonical.encode(fields)
    return records.from_json(kind, fields)


def _check_names(*names: str) -> None:
    for name in names:
        if len(name) > NAME_LIMIT:
            raise ValueError(f"a name has at most {NAME_LIMIT} characters")
