"""`verify --draws` finds orders that a dishonest network let in against settlement's rules."""

from pathlib import Path

import pytest

from gensyn_ray.cli.books import check_file
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.evidence import Evidence, Flush, Reveal
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.services.authority import Authority
from ledger.core.commands import Record
from ledger.export.flat import write_flat
from tests.kits import ledger_kit
from tests.kits.authority_kit import AuthorityKit

NETWORK = SigningKey(bytes.fromhex("aa" * 32))


def dishonest(evidence: Evidence, folder: Path) -> Path:
    """The flat journal of a network that lets the driver of `job-2` record evidence on `job-1`."""
    kit = AuthorityKit().begin(audit_ppm=500_000)
    friend = ledger_kit.open_job("job-2", driver_key=ledger_kit.key_of("friend").public.hex())
    kit.accept("submitter", "submitter", friend)
    kit.work("op-a", "task-0", 0)
    kit.accept("friend", "driver", Record(evidence=evidence))
    write_flat(kit.store.read(0), NETWORK, "testnet", folder / "journal")
    return folder / "journal"


@pytest.mark.parametrize(
    "evidence", [Reveal(job="job-1", batch="job-1/batch-0", link="00" * 32), Flush(job="job-1")]
)
def test_evidence_of_another_jobs_driver_is_found(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a link of its choice instead of the submitter's, a network could choose the draw."""
    monkeypatch.setattr(Authority, "_admit", lambda self, order: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    journal = dishonest(evidence, tmp_path)
    with pytest.raises(OperationError, match="should have been refused: not your job"):
        check_file(journal, NETWORK.public.hex(), draws=True)
