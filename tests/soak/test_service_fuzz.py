"""Fuzzing of the service by its OpenAPI document: no request gets a 5xx.

Schemathesis generates requests to each route, valid and invalid. A second test signs bodies of a
known party with hostile arguments. A few examples run with the other tests, more in `make soak` and
`make proofs`.
"""

import dataclasses
import typing
from collections import Counter
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gensyn_ray.domain import evidence
from gensyn_ray.domain.signing import COMMAND, Envelope, SigningKey, seal
from ledger.core.commands import ALLOWED_ROLES, CloseJob
from ledger.service.app import make_app
from tests.kits.amounts import soak_or_proof
from tests.kits.hostile_kit import KEYS, ROLES, Network

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ROUTES = {"POST /v1/commands", "GET /v1/read/{view}", "GET /health", "GET /metrics"}
FEW = 15

Strategy = st.SearchStrategy[Any]


@pytest.mark.parametrize("examples", [FEW, *soak_or_proof(soak=200, proof=800)])
def test_every_route_keeps_its_promises(examples: int) -> None:
    calls = fuzz_every_route(examples)
    assert set(calls) == ROUTES
    for route in ("POST /v1/commands", "GET /v1/read/{view}"):
        assert calls[route] >= 2 * examples


@pytest.mark.parametrize("examples", [10 * FEW, *soak_or_proof(soak=1_000, proof=4_000)])
def test_signed_nonsense_is_answered(examples: int) -> None:
    answers = fuzz_signed_bodies(examples)
    assert sum(answers.values()) >= examples
    assert {"malformed", "role not allowed", "unknown job"} <= set(answers)
    assert len(answers) > 6


def fuzz_every_route(examples: int) -> Counter[str]:
    """The number of calls for each route. Fails on the first undocumented answer."""
    app = app_of(Network())
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    schema.validate()
    calls: Counter[str] = Counter()
    for result in schema.get_all_operations():
        for mode in GenerationMode:
            if (cases := cases_of(result.ok(), mode)) is not None:
                ask_all(cases, examples, calls)
    return calls


def cases_of(operation: Any, mode: GenerationMode) -> Strategy | None:
    """Requests to one route, valid and invalid. A route without input gets no invalid ones."""
    takes_input = bool(list(operation.iter_parameters()) or operation.body)
    if mode is GenerationMode.NEGATIVE and not takes_input:
        return None
    return operation.as_strategy(generation_mode=mode)


def ask_all(cases: Strategy, examples: int, calls: Counter[str]) -> None:
    @bounded(examples)
    @given(case=cases)
    def ask(case: schemathesis.Case) -> None:
        response = case.call()
        calls[f"{case.method} {case.path}"] += 1
        case.validate_response(response, checks=CHECKS)

    ask()


def fuzz_signed_bodies(examples: int) -> Counter[str]:
    """Reason ("" if accepted) -> number of answers, to signed commands with hostile arguments."""
    network = Network()
    assert "receipt" in network.open_job()
    answers: Counter[str] = Counter()
    with TestClient(app_of(network)) as client:

        def post(envelope: Envelope) -> str:
            response = client.post("/v1/commands", json=envelope.to_json())
            assert response.status_code in (200, 409), response.text
            return response.json().get("refused", "")

        @bounded(examples)
        @given(st.sampled_from(sorted(SIGNERS)).flatmap(lambda role: hostile(network, role)))
        def send(body: dict[str, Any]) -> None:
            key = SIGNERS[body["role"]]
            try:
                envelope = seal(key, COMMAND, body)
            except ValueError:
                reject()  # it has no canonical JSON, so it cannot be signed
            answers[post(envelope)] += 1

        for role in ("operator", "verifier"):
            arguments = {"name": role, "numerics": "c"}
            joins = body_of(network, role, "Join", arguments, role)
            assert post(seal(SIGNERS[role], COMMAND, joins)) == ""
        send()
    return answers


def app_of(network: Network) -> FastAPI:
    """The application of a real authority. An exception in it fails the test."""
    authority = network.authority

    def fail(error: BaseException) -> None:
        raise error

    return make_app(authority.submit, authority.read, authority.tick, tick_ms=50, on_failure=fail)


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def hostile(network: Network, role: str) -> Strategy:
    """Bodies with a valid envelope and mostly well-typed arguments.

    Most operations are allowed for the role. None closes the job, because a closed job gives the
    same answer to all commands.
    """
    others = [command for command in ALLOWED_ROLES if command is not CloseJob]
    allowed = [command for command in others if role in ALLOWED_ROLES[command]]
    commands = st.sampled_from([*allowed * 9, *others])
    return commands.flatmap(
        lambda command: st.builds(
            lambda arguments, nonce: body_of(network, role, command.__name__, arguments, nonce),
            arguments_of(command),
            st.uuids().map(str),
        )
    )


def body_of(
    network: Network, role: str, operation: str, arguments: Any, nonce: str
) -> dict[str, Any]:
    return {
        "network": "n",
        "genesis": network.authority.genesis,
        "role": role,
        "operation": operation,
        "arguments": arguments,
        "nonce": nonce,
        "expiry_ms": network.clock() + 30_000,
        "head": "",
    }


def arguments_of(command: type) -> Strategy:
    hints = typing.get_type_hints(command)
    fields = {one.name: values_of(hints[one.name]) for one in dataclasses.fields(command)}
    if "job" in fields:
        fields["job"] = st.sampled_from([st.just("5"), fields["job"]]).flatmap(lambda one: one)
    whole, some = st.fixed_dictionaries(fields), st.fixed_dictionaries({}, optional=fields)
    return st.sampled_from([*[whole] * 9, some]).flatmap(lambda chosen: chosen)


def evidence_of(kind: type) -> Strategy:
    """A record of evidence as JSON, with values of its fields' types or hostile ones."""
    fields = {name: values_of(hint) for name, hint in typing.get_type_hints(kind).items()}
    return st.fixed_dictionaries({"type": st.just(kind.__name__), **fields})


def values_of(hint: Any) -> Strategy:
    """Values of a type, hostile values, and rarely values of another type."""
    fitting: dict[Any, Strategy] = {
        str: TEXT,
        int: st.integers(-(2**53) + 1, 2**53 - 1) | st.sampled_from([0, 1, 10]),
        bool: st.booleans(),
        list: st.lists(TEXT, max_size=3) | st.lists(ANY_OBJECT, max_size=3),
        dict: ANY_OBJECT,
    }
    if hint == evidence.Evidence:
        fits = st.sampled_from(typing.get_args(hint)).flatmap(evidence_of)
    else:
        fits = fitting.get(typing.get_origin(hint) or hint, ANY_VALUE)
    return st.sampled_from([*[fits] * 29, ANY_VALUE]).flatmap(lambda chosen: chosen)


SIGNERS = {
    **{ROLES[name]: key for name, key in KEYS.items()},
    "operator": SigningKey(b"o" * 32),
    "verifier": SigningKey(b"v" * 32),
}
PARTIES = [key.party for key in SIGNERS.values()]
WORDS = ["sweep", "FullAudit", "Reveal", "Draw", "Verdict", "Ruling", "operator"]
TEXT = st.sampled_from(
    [*PARTIES, "cc" * 32, "zz" * 32, "5", "t", "", "../..", "5/t/0/0", *WORDS]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.sampled_from(
    [
        "job",
        "task",
        "tasks",
        "segment",
        "attempt",
        "slot",
        "result",
        "batch",
        "link",
        "type",
        *WORDS,
    ]
)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXT, inner, max_size=6),
    max_leaves=12,
)
ANY_OBJECT = st.dictionaries(NAMES, ANY_VALUE, max_size=6) | st.fixed_dictionaries(
    {"job": st.just("5")}, optional={"tasks": st.lists(TEXT, max_size=2), "link": TEXT}
)
