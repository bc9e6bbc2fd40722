"""Jobs from machines that reach the network only through Ray Client. Each client is a separate
process, or a network connection that uses only the head's actors."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from ray.job_submission import JobSubmissionClient

from gensyn_ray.api.network import Network
from gensyn_ray.domain.errors import OperationError, Refused
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import LocalNetwork, wait_for
from tests.kits import raising
from tests.kits.laptop import BUDGET, sweep
from tests.kits.ray_network import STAKE_MICRO, VOLUNTEERS
from workloads.programs.digits import Digits

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.soak


@pytest.fixture
def key_file(network: LocalNetwork, tmp_path: Path) -> Path:
    path = tmp_path / "submitter.key"
    path.write_text(network.secret("submitter").hex())
    return path


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def _cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gensyn_ray.cli.main", *arguments],
        env=_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


def _committed(network: LocalNetwork, job: str) -> int:
    return network.ledger.read("job", job=job)["segments"]["committed"]


def test_a_sweep_continues_without_its_client_and_another_machine_reads_it(
    network: LocalNetwork, client: Network, key_file: Path, tmp_path: Path
) -> None:
    laptop = [sys.executable, "-m", "tests.kits.laptop", network.client_address, str(key_file)]
    with subprocess.Popen(
        [*laptop, "open"], cwd=tmp_path, env=_environment(), stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        job = first.stdout.readline().strip()
        wait_for(lambda: _committed(network, job) >= 3, timeout_s=720, what="three segments")
        first.kill()
    assert not network.ledger.read("job", job=job)["closed"]

    shown = {
        one.submission_id: one
        for one in JobSubmissionClient(network.facts["dashboard"]).list_jobs()
    }
    assert shown[job].metadata == {
        "gensyn.job": job,
        "gensyn.kind": "sweep",
        "gensyn.submitter": client.party,
    }

    other = subprocess.run(
        [*laptop, "read", job],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert other.returncode == 0, other.stderr
    read = json.loads(other.stdout.splitlines()[-1])
    segments = 2 * Digits.segments
    assert read["state"] == "done"
    assert read["trials"] == 2
    assert read["accuracy"] > 0.9
    assert read["rows"] == Digits.segments
    assert read["receipts"] == segments
    assert read["paid_micro"] == segments * MICRO_PER_CREDIT
    assert read["tensors"] > 0


def test_only_the_submitter_cancels_and_the_unspent_budget_returns(
    network: LocalNetwork, client: Network, key_file: Path
) -> None:
    def money() -> int:
        return network.ledger.read("balance", party=client.party)["available_micro"]

    before_micro = money()
    job = sweep(client, [0.02, 0.03, 0.04, 0.05])
    assert money() == before_micro - BUDGET.total_micro
    wait_for(lambda: _committed(network, job.id) >= 3, timeout_s=720, what="three segments")

    thief = Network(network.key("thief"))
    thief.join("thief")
    with pytest.raises(Refused, match="not your job"):
        thief.job(job.id).cancel()
    assert not job.status().closed

    arguments = ("--address", network.client_address, "--key-file", str(key_file))
    done = _cli("cancel", job.id, *arguments)
    assert done.returncode == 0, done.stderr
    assert "is cancelled" in done.stdout
    bill = job.status()
    assert bill.closed
    assert bill.escrow_micro == 0
    assert bill.segments.settled == bill.segments.committed >= 3
    assert bill.paid_micro == bill.segments.committed * MICRO_PER_CREDIT
    assert money() == before_micro - bill.paid_micro
    for name in VOLUNTEERS:
        party = network.key(name).party
        assert network.ledger.read("balance", party=party)["free_stake_micro"] == STAKE_MICRO
    result = job.result(timeout_s=10)
    assert result.summary.state == "cancelled"
    assert len(result.receipts) == bill.segments.committed
    assert not job.cancel(), "it was over already"


def test_what_a_program_raises_reaches_its_author(
    network: LocalNetwork, client: Network, key_file: Path
) -> None:
    before_micro = client.read("balance", party=client.party).available_micro
    bad_state = client.finetune(
        raising.Raises,
        config={"where": "nan"},
        metric="loss",
        mode="min",
        budget=BUDGET,
        dry_run=False,
    )
    (key_file.parent / "raising.py").write_text(Path(raising.__file__).read_text())
    job_file = key_file.parent / "job.toml"
    job_file.write_text(
        """
        kind = "finetune"
        program = "raising.py:Raises"
        budget = { credits = 10 }
        config = { where = "step" }
        search = { metric = "loss", mode = "min" }
        """
    )
    arguments = ("--address", network.client_address, "--key-file", str(key_file))
    here = _cli("submit", str(job_file), *arguments)
    there = _cli("submit", str(job_file), "--no-dry-run", *arguments)
    assert "is open" not in here.stdout, "the dry run has found it"
    assert "is open" in there.stdout
    for done in (here, there):
        assert done.returncode == 1
        for text in ("in step", "self._divide(0)", "# the mistake", "ZeroDivisionError: division"):
            assert text in done.stderr
        frames = [line for line in done.stderr.splitlines() if "File " in line]
        assert all("<bundle " in line for line in frames), "none but the program's own"
    with pytest.raises(OperationError, match="the metric 'loss' is nan"):
        bad_state.result(timeout_s=720)
    assert bad_state.status().closed
    assert client.read("balance", party=client.party).available_micro == before_micro


def test_a_quote_opens_no_job(client: Network, network: LocalNetwork, key_file: Path) -> None:
    before_micro = client.read("balance", party=client.party).available_micro
    job_file = key_file.parent / "job.toml"
    job_file.write_text(
        """
        kind = "sweep"
        program = "digits"
        budget = { credits = 10 }
        search = { metric = "accuracy", mode = "max", trials = 3 }
        space = { lr = { loguniform = [1e-3, 1e-1] }, momentum = 0.9, width = 16 }
        """
    )
    arguments = ("--address", network.client_address, "--key-file", str(key_file))
    done = _cli("submit", str(job_file), "--quote", "--cloud-price", "3600", *arguments)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(None, 1) for line in done.stdout.splitlines())
    segments = 3 * Digits.segments
    assert said["cost"] == f"{segments} credits for {segments} segments, of a budget of 10"
    assert "the budget ends this job" in done.stdout
    assert said["work"].endswith(f"on {len(VOLUNTEERS)} nodes")
    assert said["done"].startswith("in 0:")
    has_lost_a_node = any(not node["Alive"] for node in ray.nodes())
    assert (said["churn"] == "no node was seen to leave") is not has_lost_a_node
    assert float(said["cloud"].split()[0].replace(",", "")) > 0
    assert client.read("balance", party=client.party).available_micro == before_micro


def test_a_wrong_token_gives_one_clear_line_at_once(network: LocalNetwork) -> None:
    started = time.monotonic()
    done = _cli("watch", "x", "--address", network.client_address, RAY_AUTH_TOKEN="0" * 32)
    assert done.returncode == 1
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert time.monotonic() - started < 20
