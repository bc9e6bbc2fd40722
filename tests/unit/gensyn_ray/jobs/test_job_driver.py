"""What the next driver of a job takes up where the last one died."""

from pathlib import Path
from typing import Any

from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.jobs.driver import SECRET_LINKS, JobDriver
from gensyn_ray.jobs.request import JobRequest
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.object_store.folder import Folder
from ledger.client import Signer
from ledger.core.commands import Record
from tests.kits.fake_ledger import FakeLedger, reading_of
from verifier_actors.core import beacon
from workloads.core.segment import TaskSpec

SECRET = b"s" * 32
KEY = SigningKey(b"d" * 32)


class Authority:
    """The part of a fake ledger that counts links: batches that wait, links that were shown."""

    def __init__(self, *, rounds: list[str], revealed: int) -> None:
        self.ledger = FakeLedger()
        self.rounds, self.revealed = rounds, revealed
        self.ledger.views = {
            "unrevealed": lambda job: self.rounds[len(self.records) :],
            "job": lambda job: reading_of("job", revealed=self.revealed + len(self.records)),
            "tasks": {},
        }

    @property
    def records(self) -> list[dict[str, Any]]:
        """The contents of the records that the driver sent."""
        return [one.content for one in self.ledger.commands() if isinstance(one, Record)]


def driver_of(ledger: Any, folder: Path) -> JobDriver:
    request = JobRequest(
        job="job-1",
        facts={},
        template=TaskSpec(bundle="b", config={}, seed=0, task=""),
        driver_seed=b"d" * 32,
        secret_seed=SECRET,
        packed=b"",
    )
    signer = Signer(KEY, role="driver", network="n", genesis="g", clock=lambda: 1_000_000)
    return JobDriver(request, ledger, Blobs(Folder(folder)), signer)


def test_links_go_on_after_the_last_that_the_authority_saw(tmp_path: Path) -> None:
    authority = Authority(rounds=["r-7", "r-8"], revealed=7)
    driver = driver_of(authority.ledger, tmp_path)
    driver.reveal_due()
    authority.rounds.append("r-9")
    driver.reveal_due()
    driver.reveal_due()
    assert [(one["round"], one["link"]) for one in authority.records] == [
        (f"r-{index - 1}", beacon.link_of(SECRET, SECRET_LINKS, index).hex())
        for index in (8, 9, 10)
    ]
