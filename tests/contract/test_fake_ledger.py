"""Contract of the ledger's client, on the fake and on a real client of a real authority."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from gensyn_ray.domain.errors import Refused
from gensyn_ray.domain.signing import Envelope
from ledger.client import LedgerClient, Signer, check_receipt
from ledger.core.commands import Command, Join
from ledger.service.app import make_app
from tests.kits import fake_ledger
from tests.kits.authority_kit import AuthorityKit
from tests.kits.fake_ledger import FakeLedger, reading_of
from tests.kits.http_kit import serving
from tests.kits.ledger_kit import key_of

VIEWS = ("task", "tasks", "job", "open_jobs", "object_rights", "balance")


class Ledger(Protocol):
    """The part of `LedgerClient` that callers use."""

    def submit(self, envelope: Envelope) -> dict[str, Any]: ...

    def read(self, view: str, **parameters: str | int) -> Any: ...


class Case:
    """A ledger, the key of its network, and a signer of a new submitter."""

    def __init__(self, ledger: Ledger, network_key: bytes, genesis: str, kit: AuthorityKit) -> None:
        self.ledger = ledger
        self.network_key = network_key
        self._signer = Signer(
            key_of("somebody new"),
            role="submitter",
            network="testnet",
            genesis=genesis,
            clock=kit.clock,
        )

    def sign(self, command: Command) -> Envelope:
        return self._signer.sign(command)


@pytest.fixture(params=["fake", "real"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    kit = AuthorityKit().begin()
    if request.param == "fake":
        fake = FakeLedger()
        fake.views = {view: reading_of(view) for view in VIEWS}
        yield Case(fake, fake_ledger.NETWORK_KEY.public, fake_ledger.GENESIS, kit)
        return
    address = f"unix:{tmp_path / 's'}"
    authority, failures = kit.authority, list[BaseException]()
    app = make_app(
        authority.submit,
        authority.read,
        authority.tick,
        tick_ms=3_600_000,
        on_failure=failures.append,
    )
    with serving(app, address):
        client = LedgerClient(address)
        yield Case(client, authority.public_key, authority.genesis, kit)
        client.close()
    assert failures == []


def test_an_accepted_command_has_a_signed_receipt(case: Case) -> None:
    envelope = case.sign(Join(name="new"))
    answer = case.ledger.submit(envelope)
    assert set(answer) == {"receipt"}
    body = check_receipt(answer["receipt"], case.network_key)
    assert set(body) == {"key", "network", "index", "time_ms", "command", "events", "head"}
    assert body["command"] == envelope.body_hash
    assert {type(body[name]) for name in ("index", "time_ms")} == {int}
    size, _, root = body["head"].partition(":")
    assert (int(size) > 0, len(root)) == (True, 64)


def test_the_same_bytes_have_the_same_receipt(case: Case) -> None:
    envelope = case.sign(Join(name="new"))
    assert case.ledger.submit(envelope) == case.ledger.submit(envelope)


@pytest.mark.parametrize("part", ["body", "signature"])
def test_a_changed_envelope_is_refused(case: Case, part: str) -> None:
    first, second = case.sign(Join(name="new")), case.sign(Join(name="other"))
    forged = Envelope.from_json({**first.to_json(), part: second.to_json()[part]})
    with pytest.raises(Refused) as refused:
        case.ledger.submit(forged)
    assert refused.value.reason == "bad signature"


def test_an_unknown_view_is_refused(case: Case) -> None:
    with pytest.raises(Refused) as refused:
        case.ledger.read("nothing")
    assert refused.value.reason == "unknown view"


@pytest.mark.parametrize("view", VIEWS)
def test_a_reading_has_the_same_fields(case: Case, view: str) -> None:
    reading = case.ledger.read(view, job="job-1", **fake_ledger.PARAMETERS.get(view, {}))
    row = reading[0] if isinstance(reading, list) else reading
    assert row.keys() == reading_of(view).keys()
    with pytest.raises(KeyError, match="no such_field"):
        reading_of(view, such_field=1)
