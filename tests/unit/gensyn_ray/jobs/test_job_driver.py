"""The next driver of a job continues after the last one has died."""

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
from workloads.core.task_spec import TaskSpec

SECRET = b"s" * 32
KEY = SigningKey(b"d" * 32)


class Authority:
    """A fake ledger that counts links: waiting batches and shown links."""

    def __init__(self, *, batches: list[str], revealed: int) -> None:
        self.ledger = FakeLedger()
        self.batches, self.revealed = batches, revealed
        self.ledger.views = {
            "unrevealed": lambda job: self.batches[len(self.records) :],
            "job": lambda job: reading_of("job", revealed=self.revealed + len(self.records)),
            "tasks": {},
        }

    @property
    def records(self) -> list[Any]:
        """The evidence from the driver."""
        return [one.evidence for one in self.ledger.commands() if isinstance(one, Record)]


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


def test_links_continue_after_the_last_revealed_one(tmp_path: Path) -> None:
    authority = Authority(batches=["b-7", "b-8"], revealed=7)
    driver = driver_of(authority.ledger, tmp_path)
    driver.reveal_due()
    authority.batches.append("b-9")
    driver.reveal_due()
    driver.reveal_due()
    assert [(one.batch, one.link) for one in authority.records] == [
        (f"b-{index - 1}", beacon.link_of(SECRET, SECRET_LINKS, index).hex())
        for index in (8, 9, 10)
    ]
