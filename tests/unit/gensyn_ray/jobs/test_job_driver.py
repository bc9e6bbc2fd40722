"""What the next driver of a job takes up where the last one died."""

from pathlib import Path
from typing import Any

import pytest

from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.jobs.driver import SECRET_LINKS, JobDriver
from gensyn_ray.jobs.request import JobRequest
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.object_store.folder import Folder
from ledger.client import Signer
from ledger.core import orders
from ledger.core.commands import Record
from verifier_actors.core import beacon

SECRET = b"s" * 32
KEY = SigningKey(b"d" * 32)


class FakeLedger:
    """An authority that knows of some tasks and rounds, and has seen some links."""

    def __init__(self, *, rounds: list[str], revealed: int) -> None:
        self.rounds, self.revealed = rounds, revealed
        self.tasks: dict[str, Any] = {}
        self.records: list[dict[str, Any]] = []

    def submit(self, envelope: Envelope) -> dict[str, Any]:
        order = orders.read(envelope)
        assert isinstance(order, orders.Order)
        assert isinstance(order.command, Record)
        self.records.append(order.command.content)
        self.revealed += 1
        self.rounds.remove(order.command.content["round"])
        return {}

    def read(self, view: str, **_: str) -> Any:
        job = {"revealed": self.revealed}
        return {"unrevealed": list(self.rounds), "job": job, "tasks": self.tasks}[view]


def driver_of(ledger: Any, folder: Path) -> JobDriver:
    request = JobRequest(
        job="job-1",
        facts={},
        bundle="b",
        data="",
        numerics="",
        seed=0,
        driver_seed=b"d" * 32,
        secret_seed=SECRET,
        packed=b"",
    )
    signer = Signer(KEY, role="driver", network="n", genesis="g", clock=lambda: 1_000_000)
    return JobDriver(request, ledger, Blobs(Folder(folder)), signer)


def test_links_go_on_after_the_last_that_the_authority_saw(tmp_path: Path) -> None:
    ledger = FakeLedger(rounds=["r-7", "r-8"], revealed=7)
    driver = driver_of(ledger, tmp_path)
    driver.reveal_due()
    ledger.rounds = ["r-9"]
    driver.reveal_due()
    driver.reveal_due()
    assert [(one["round"], one["link"]) for one in ledger.records] == [
        (f"r-{index - 1}", beacon.link_of(SECRET, SECRET_LINKS, index).hex())
        for index in (8, 9, 10)
    ]


def test_a_joint_training_says_that_it_cannot_go_on(tmp_path: Path) -> None:
    ledger = FakeLedger(rounds=[], revealed=0)
    driver = driver_of(ledger, tmp_path)
    driver.must_be_first()
    ledger.tasks = {"r000-0": {}}
    with pytest.raises(OperationError, match="submit the job again"):
        driver.must_be_first()
