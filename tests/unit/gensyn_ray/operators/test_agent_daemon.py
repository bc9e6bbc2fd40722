"""Hostile requests to the agent's socket, and the agent's answers."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from gensyn_ray.domain import canonical, records
from gensyn_ray.domain.errors import (
    GensynError,
    OperationError,
    Refused,
    Unreachable,
    UsageError,
)
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.records import to_json
from gensyn_ray.operators.agent_client import AgentClient
from gensyn_ray.operators.agent_daemon import main, make_app
from gensyn_ray.operators.agent_requests import NAME_LIMIT
from ledger.core.refusals import Reason
from ledger.service.app import make_app as ledger_app
from tests.kits.agent_kit import make_agent, make_config, make_leaf
from tests.kits.fake_ledger import FakeLedger, reading_of
from tests.kits.http_kit import (
    PATIENCE_S,
    connected,
    posted,
    received,
    serving,
    wait_until,
)

SLOT = {"job": "job", "task": "t000", "segment": 0, "attempt": 0}
LINK = {"job": "job", "trial": "t", "method": "get", "kind": "states", "digest": "ab" * 32}
DEEP: Any = []
for _ in range(40):
    DEEP = [DEEP]


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def http(ledger: FakeLedger) -> TestClient:
    """The agent's interface. An exception without an answer fails the test."""
    return TestClient(make_app(make_agent(ledger)))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("identity", []),
        ("identity", {"party": "me"}),
        ("task", None),
        ("task", 5),
        ("task", {}),
        ("task", {"job": "job"}),
        ("task", {"job": "job", "trial": 1}),
        ("task", {"job": "job", "trial": "t", "self": "x"}),
        ("task", {"job": "j" * (NAME_LIMIT + 1), "trial": "t"}),
        ("task", {"job": "\ud800", "trial": "t"}),
        ("slot", {**SLOT, "segment": "0"}),
        ("slot", {**SLOT, "segment": 0.5}),
        ("slot", {**SLOT, "segment": True}),
        ("slot", {**SLOT, "segment": 2**80}),
        ("slot", {**SLOT, "job": "\udfff"}),
        ("slot", {**SLOT, "job": ["job"]}),
        ("slot", {**SLOT, "agent": "__init__"}),
        ("commit", {}),
        ("commit", {"leaf": []}),
        ("commit", {"leaf": make_leaf(), "slot": SLOT}),
        ("commit", {"leaf": {**make_leaf(), "metrics": DEEP}}),
        ("commit", {"leaf": {**make_leaf(), "metrics": {"loss": 2**80}}}),
        ("commit", {"leaf": {**make_leaf(), "metrics": {"pay_micro": "much"}}}),
        ("verdict", {"job": "job", "slot": "job/t000/0/0", "result": 1}),
        ("verdict", {"job": "job", "slot": "job/t000/0/0", "result": "\ud800"}),
        ("link", {**LINK, "method": "delete"}),
        ("link", {**LINK, "digest": "a" * (NAME_LIMIT + 1)}),
    ],
)
def test_a_request_of_another_shape_is_malformed_and_signs_nothing(
    http: TestClient, ledger: FakeLedger, name: str, body: Any
) -> None:
    answer = http.post(f"/{name}", content=json.dumps(body))
    assert (answer.status_code, answer.json()["refused"]) == (400, "malformed"), answer.text
    assert answer.json()["detail"]
    assert len(answer.content) < 2_000
    assert ledger.seen == ledger.asked == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"job": NaN}', b'{"a": ' * 40_000, b"9" * 5_000],
)
def test_a_body_that_is_no_json_is_malformed(http: TestClient, content: bytes) -> None:
    for name in ("identity", "commit"):
        answer = http.post(f"/{name}", content=content)
        assert (answer.status_code, answer.json()["refused"]) == (400, "malformed")


@pytest.mark.parametrize(
    "path", ["/", "/withdraw", "/__init__", "/slot/", "/slot/x", "/docs", "/openapi.json", "/%ff"]
)
def test_an_unknown_request_is_refused(http: TestClient, path: str) -> None:
    answer = http.post(path, json={}, follow_redirects=False)
    assert (answer.status_code, answer.json()["refused"]) == (404, "unknown request")


def test_another_method_is_refused(http: TestClient) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        answer = http.request(method, "/identity")
        assert (answer.status_code, answer.json()["refused"]) == (405, "wrong method")


def test_a_leaf_that_names_no_slot_has_the_networks_reason(
    http: TestClient, ledger: FakeLedger
) -> None:
    assert http.post("/slot", json=SLOT).json() == {}
    for leaf in ({}, {**make_leaf(), "segment": "0"}, {**make_leaf(), "attempt": None}):
        answer = http.post("/commit", json={"leaf": leaf})
        assert (answer.status_code, answer.json()["refused"]) == (409, Reason.WRONG_LEAF)
    assert len(ledger.seen) == 1
    assert set(http.post("/commit", json={"leaf": make_leaf()}).json()) == {"body", "signature"}


def test_concurrent_requests_sign_a_slot_once(ledger: FakeLedger) -> None:
    with TestClient(make_app(make_agent(ledger))) as http:
        assert http.post("/slot", json=SLOT).status_code == 200
        leaves = [{**make_leaf(), "state_after": f"{number:02x}" * 32} for number in range(16)]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda one: http.post("/commit", json={"leaf": one}), leaves))
    assert sorted(one.status_code for one in answers) == [200] + [409] * 15
    assert len(ledger.seen) == 2, "one slot, one commitment"


def test_a_ledger_that_does_not_answer_is_a_failure_and_no_refusal(
    http: TestClient, ledger: FakeLedger
) -> None:
    ledger.script = [Unreachable("no ledger answers")] * 2
    answer = http.post("/slot", json=SLOT)
    assert (answer.status_code, answer.json()) == (503, {"detail": "no ledger answers"})


def test_a_bug_is_answered_without_its_traceback(ledger: FakeLedger) -> None:
    ledger.script = [RuntimeError("secret")]
    http = TestClient(make_app(make_agent(ledger)), raise_server_exceptions=False)
    answer = http.post("/slot", json=SLOT)
    assert (answer.status_code, list(answer.json())) == (500, ["detail"])
    assert "secret" not in answer.text


NAMES = st.sampled_from(
    ["job", "task", "segment", "attempt", "trial", "leaf", "operator", "metrics", "slot", "result"]
)
TEXT = st.text(max_size=6) | st.sampled_from(["\ud800", "job", "t000", "../..", "a" * 300])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXT, inner, max_size=5),
    max_leaves=10,
)
OBJECTS = st.fixed_dictionaries({}, optional=dict.fromkeys((*SLOT, *LINK), VALUES))
LEAVES = st.dictionaries(st.sampled_from(sorted(make_leaf())), VALUES, max_size=2).map(
    lambda changed: {"leaf": {**make_leaf(), **changed}}
)
MOSTLY_SLOTS = st.dictionaries(st.sampled_from(sorted(SLOT)), VALUES, max_size=1).map(
    lambda changed: {**SLOT, **changed}
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    name=st.sampled_from(["identity", "task", "slot", "commit", "verdict", "link"]),
    value=VALUES | OBJECTS | LEAVES | MOSTLY_SLOTS,
)
def test_whatever_json_comes_the_answer_has_a_named_reason(name: str, value: Any) -> None:
    ledger = FakeLedger()
    ledger.views["task"] = {"task": "t000", "bundle": "bb" * 32, "vetted": True}
    http = TestClient(make_app(make_agent(ledger)))
    answer = http.post(f"/{name}", content=json.dumps(value))
    assert answer.status_code in (200, 400, 409, 503), answer.text
    if answer.status_code in (400, 409):
        assert set(answer.json()) == {"refused", "detail"}


# -- the client ----------------------------------------------------------------------------------


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


def test_a_worker_gets_the_agents_answer(ledger: FakeLedger, socket_path: Path) -> None:
    agent = make_agent(ledger)
    ledger.views["task"] = reading_of("task", task="t000", bundle="bb" * 32)
    with serving(make_app(agent), f"unix:{socket_path}"):
        client = AgentClient(str(socket_path))
        assert client.identity() == agent.identity()
        assert to_json(client.task(job="job", trial="t")) == ledger.views["task"]
        client.slot(Slot(job="job", task="t000", segment=0, attempt=0))
        leaf = Leaf.parse(make_leaf())
        assert set(client.commit(leaf)) == {"body", "signature"}
        with pytest.raises(Refused, match="not open at this agent"):
            client.commit(leaf)
        client.verdict(job="job", slot="job/t000/0/0", result="ab" * 32)
        with pytest.raises(OperationError, match="set `store`"):
            client.link(job="job", trial="t", method="get", kind="data", digest="ab" * 32)
    with pytest.raises(Unreachable, match="no agent answers"):
        client.identity()


def test_an_overloaded_agent_is_asked_again(ledger: FakeLedger, socket_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def read(view: str, **parameters: str | int) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return reading_of("task", task="t000", bundle="bb" * 32)

    ledger.read = read
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            go_on.set()
            busy.result(PATIENCE_S)

    app = make_app(make_agent(ledger), call_limit=1)
    with serving(app, f"unix:{socket_path}"), ThreadPoolExecutor() as pool:
        busy = pool.submit(AgentClient(str(socket_path)).task, job="job", trial="t")
        assert begun.wait(PATIENCE_S)
        raw = httpx.Client(transport=httpx.HTTPTransport(uds=str(socket_path)))
        refused = raw.post("http://agent/identity", json={})
        assert (refused.status_code, refused.json()["refused"]) == (503, "overloaded")
        client = AgentClient(str(socket_path), sleep=sleep)
        assert client.identity().role == "operator"
    assert len(pauses) == 2


# -- the process ---------------------------------------------------------------------------------

AGENT = """
import sys
from pathlib import Path
from gensyn_ray.domain.errors import GensynError
from gensyn_ray.operators.agent_daemon import main

try:
    main(Path(sys.argv[1]))
except GensynError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
print("ended in order")
"""


@contextmanager
def authority(ledger: FakeLedger, address: str) -> Iterator[None]:
    """The fake ledger behind the real HTTP service."""
    app = ledger_app(
        lambda envelopes: [ledger.submit(one) for one in envelopes],
        lambda view, parameters: {"entries": 0} if view == "health" else ledger.views[view],
        lambda: None,
        tick_ms=3_600_000,
        on_failure=lambda error: None,
    )
    with serving(app, address):
        yield


@contextmanager
def running_agent(config: Path) -> Iterator["subprocess.Popen[str]"]:
    """The process of an agent. It ends with the test."""
    command = [sys.executable, "-W", "ignore", "-c", AGENT, str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture
def config(tmp_path: Path, ledger: FakeLedger, socket_path: Path) -> Iterator[Path]:
    """The configuration of a verifier's agent with a running ledger."""
    ledger.views["balance"] = reading_of("balance", joined=True)
    address = f"unix:{tmp_path / 'ledger.sock'}"
    written = tmp_path / "agent.json"
    found = replace(
        make_config("verifier"),
        key_seed=(b"o" * 32).hex(),
        ledger=address,
        socket=str(socket_path),
    )
    written.write_bytes(canonical.encode(records.to_json(found)))
    with authority(ledger, address):
        yield written


def answers(path: Path) -> bool:
    try:
        return AgentClient(str(path)).identity().role == "verifier"
    except Unreachable:
        return False


def test_an_agent_serves_its_owner_and_group_and_ends_in_order(
    config: Path, socket_path: Path
) -> None:
    with running_agent(config) as agent:
        wait_until(lambda: answers(socket_path))
        mode = os.stat(socket_path).st_mode
        assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o660)
        agent.send_signal(signal.SIGTERM)
        output, errors = agent.communicate(timeout=PATIENCE_S)
    assert (agent.returncode, output, errors) == (0, "ended in order\n", "")
    assert not socket_path.exists()


def test_a_second_agent_of_a_socket_ends_before_it_signs(
    config: Path, socket_path: Path, ledger: FakeLedger
) -> None:
    with running_agent(config) as first:
        wait_until(lambda: answers(socket_path))
        ledger.views["balance"] = reading_of("balance", joined=False)
        with running_agent(config) as second:
            _, errors = second.communicate(timeout=PATIENCE_S)
        assert second.returncode == 2
        assert "a service already listens on" in errors
        assert errors.count("\n") == 1
        assert ledger.seen == [], "it did not join a second time"
        assert answers(socket_path)
        assert first.poll() is None


def test_a_file_at_the_sockets_path_is_left_alone(config: Path, socket_path: Path) -> None:
    socket_path.write_text("mine")
    with pytest.raises(UsageError, match="is no socket"):
        main(config)
    assert socket_path.read_text() == "mine"


def test_an_agent_that_may_not_join_leaves_no_socket(
    config: Path, socket_path: Path, ledger: FakeLedger
) -> None:
    del ledger.views["balance"]
    with pytest.raises(GensynError):
        main(config)
    assert not socket_path.exists()


def test_malformed_requests_write_nothing_to_the_log(config: Path, socket_path: Path) -> None:
    with running_agent(config) as agent:
        wait_until(lambda: answers(socket_path))
        for content in (
            b"\x00\r\n\r\n",
            posted("/slot", b"{"),
            posted("/x", b""),
            b"GET / HTTP/9\r\n",
        ):
            with connected(f"unix:{socket_path}") as connection:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                received(connection)
        agent.send_signal(signal.SIGTERM)
        output, errors = agent.communicate(timeout=PATIENCE_S)
    assert (agent.returncode, output, errors) == (0, "ended in order\n", "")
