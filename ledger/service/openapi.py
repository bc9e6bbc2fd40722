"""What `/openapi.json` says. Nothing here parses or checks a request."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class EnvelopeText(BaseModel):
    """A signed body: RFC 8785 JSON as text, and an Ed25519 signature in base64."""

    model_config = ConfigDict(extra="forbid")
    body: str
    signature: str


class Accepted(BaseModel):
    """The receipt: signed by the network."""

    receipt: EnvelopeText


class Refusal(BaseModel):
    """A refusal. `refused`: one of the documented reasons. `detail`: more about it, for people."""

    refused: str
    detail: str


class Health(BaseModel):
    """`entries`: the journal's length."""

    status: Literal["ok"]
    entries: int


OVERLOADED: dict[str, Any] = {
    "model": Refusal,
    "description": "Not carried out: the queue is full. Send the same bytes again later",
    "headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
}
ANY_QUERY: dict[str, Any] = {
    "name": "parameters",
    "in": "query",
    "description": "The view's parameters; each view has its own names",
    "style": "form",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}


def json_content(model: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a JSON request body."""
    schema = model.model_json_schema()
    return {"required": True, "content": {"application/json": {"schema": schema}}}
