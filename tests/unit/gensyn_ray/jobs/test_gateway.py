"""The job gateway: accepted orders, readings and refusals."""

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from gensyn_ray.domain.errors import Refused, Unreachable
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.jobs import gateway
from gensyn_ray.jobs.driver_queue import STARTS
from gensyn_ray.jobs.gateway import OBJECT_BYTES, REQUEST_BYTES, JobGateway
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.object_store.folder import Folder
from ledger.client import Signer
from ledger.core.commands import CloseJob, Command, Join, OpenJob
from ledger.core.refusals import Reason
from tests.kits import small_programs
from tests.kits.fake_ledger import FakeLedger, reading_of, receipt_for
from workloads.core.bundle import bundle_of

KEY = SigningKey(bytes(32))
FACTS = {"python": "python", "blobs": "file:///somewhere else"}
OPEN = OpenJob(
    job="job-1",
    kind="sweep",
    bundle="b",
    data_digest="d",
    budget_micro=1,
    price_micro=1,
    audit_ppm=0,
    draw_batch=1,
    secret_anchor="00" * 32,
    driver_key="00" * 32,
    numerics="pinned",
)


class Status(Enum):
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class FakeJobs:
    """Ray's list of jobs."""

    def __init__(self) -> None:
        self.jobs: dict[str, Status] = {}
        self.entrypoints: list[str] = []
        self.metadata: dict[str, str] = {}
        self.stopped: list[str] = []
        self.is_ready = True

    def submit_job(
        self,
        *,
        entrypoint: str,
        submission_id: str,
        runtime_env: dict[str, Any],
        metadata: dict[str, str],
    ) -> str:
        if not self.is_ready:
            raise RuntimeError("No available agent to submit job")
        self.jobs[submission_id] = Status.RUNNING
        self.entrypoints.append(entrypoint)
        self.metadata = metadata
        return submission_id

    def get_job_status(self, job_id: str) -> Status:
        if job_id not in self.jobs:
            raise RuntimeError(f"{job_id} does not exist")
        return self.jobs[job_id]

    def get_job_logs(self, job_id: str) -> str:
        return "x" * 3000 + "end"

    def stop_job(self, job_id: str) -> bool:
        self.stopped.append(job_id)
        return True


class Office:
    """A gateway with fakes of Ray and the ledger, and a client's key."""

    def __init__(self, folder: Path) -> None:
        self.most_drivers = 3
        self._seconds: Iterator[float] = count(step=2.0)
        self.ledger, self.jobs, self.objects = FakeLedger(), FakeJobs(), Folder(folder / "blobs")
        self.opened_elsewhere: list[str] = []
        self.closed: list[str] = []
        self.ledger.views = {
            "job": lambda job: reading_of("job", closed=job not in self.open_jobs),
            "open_jobs": lambda: [
                reading_of("open_jobs", job=job, kind="sweep", submitter=KEY.party)
                for job in self.open_jobs
            ],
        }
        self.runs = folder / "runs"
        self.runs.mkdir()
        self._signer = Signer(
            KEY, role="submitter", network="n", genesis="g", clock=lambda: 1_000_000
        )
        self.open_gateway()

    def open_gateway(self) -> None:
        """Start a gateway, as the start of a head does."""
        self.gateway = JobGateway(
            facts=FACTS,
            ledger=self.ledger,
            jobs=self.jobs,
            objects=self.objects,
            runs=(fs.LocalFileSystem(), str(self.runs)),
            nodes=list,
            most_drivers=self.most_drivers,
            monotonic_s=lambda: next(self._seconds),
        )

    def freeze_clock(self) -> None:
        """No time passes from now on."""
        self._seconds = repeat(next(self._seconds))

    @property
    def open_jobs(self) -> list[str]:
        """The open jobs."""
        opened = [one.job for one in self.ledger.accepted if isinstance(one, OpenJob)]
        known = dict.fromkeys([*opened, *self.opened_elsewhere])
        return [job for job in known if job not in self.closed]

    @property
    def receipt(self) -> dict[str, Any]:
        """The ledger's answer to the last command."""
        return {"receipt": receipt_for(self.ledger.seen[-1])}

    def signed(self, command: Command) -> dict[str, str]:
        return self._signer.sign(command).to_json()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_an_opened_job_has_a_driver_and_its_metadata(office: Office) -> None:
    assert office.gateway.open_job(office.signed(OPEN), b"request") == office.receipt
    assert office.jobs.entrypoints == [
        "python -m gensyn_ray.jobs.driver job-1 'file:///somewhere else'"
    ]
    assert office.jobs.metadata["gensyn.submitter"] == KEY.party
    assert office.objects.get("files/job-1.request") == b"request"


def test_a_job_that_the_authority_refuses_leaves_nothing(office: Office) -> None:
    office.ledger.refuses = Refused(Reason.INSUFFICIENT_FUNDS)
    answer = office.gateway.open_job(office.signed(OPEN), b"request")
    assert answer["refused"] == Reason.INSUFFICIENT_FUNDS
    assert office.jobs.jobs == {}
    assert not list(office.runs.parent.glob("blobs/files/*"))


def test_a_repeated_order_opens_a_job_once_and_changes_no_request(office: Office) -> None:
    envelope = office.signed(OPEN)
    office.gateway.open_job(envelope, b"request")
    assert office.gateway.open_job(envelope, b"request") == office.receipt
    assert office.gateway.open_job(envelope, b"another")["refused"] == Reason.JOB_EXISTS
    assert office.objects.get("files/job-1.request") == b"request"
    assert len(office.jobs.entrypoints) == 1


def test_a_new_head_gives_open_jobs_with_a_request_their_drivers(office: Office) -> None:
    office.gateway.open_job(office.signed(OPEN), b"request")
    office.opened_elsewhere = ["no-request"]
    office.jobs.jobs.clear()
    office.open_gateway()
    for _ in range(2):
        office.gateway.tend()
    assert office.jobs.jobs == {"job-1": Status.RUNNING}
    assert office.jobs.entrypoints[1:] == office.jobs.entrypoints[:1]
    assert office.jobs.metadata["gensyn.kind"] == "sweep"
    assert office.jobs.metadata["gensyn.submitter"] == KEY.party


def test_a_driver_that_dies_is_started_again_a_few_times(office: Office) -> None:
    office.gateway.open_job(office.signed(OPEN), b"request")
    for name in ("job-1", "job-1-2"):
        office.jobs.jobs[name] = Status.FAILED
        assert office.gateway.status("job-1") == ("RUNNING", ""), "its client need not know"
    assert list(office.jobs.jobs) == ["job-1", "job-1-2", "job-1-3"]
    assert len(set(office.jobs.entrypoints)) == 1
    office.ledger.refuses = Refused(Reason.SEGMENTS_UNSETTLED)
    office.gateway.close_job(office.signed(CloseJob(job="job-1")))
    assert office.jobs.stopped == ["job-1-3"]
    office.jobs.jobs["job-1-3"] = Status.FAILED
    assert office.gateway.status("job-1")[0] == "FAILED"


def test_a_job_that_comes_before_ray_is_ready_has_its_driver_later(office: Office) -> None:
    office.jobs.is_ready = False
    assert office.gateway.open_job(office.signed(OPEN), b"request") == office.receipt
    for _ in range(STARTS + 1):
        assert office.gateway.status("job-1") == ("", "")
    office.jobs.is_ready = True
    assert office.gateway.status("job-1") == ("RUNNING", "")


def test_jobs_beyond_the_limit_wait_in_order_and_start_when_there_is_room(office: Office) -> None:
    names = [f"job-{number}" for number in range(1, 7)]
    for name in names:
        office.gateway.open_job(office.signed(replace(OPEN, job=name)), b"request")
    assert list(office.jobs.jobs) == names[:3]
    assert office.gateway.status("job-4") == ("QUEUED", "place 1 in the queue")
    assert office.gateway.status("job-6") == ("QUEUED", "place 3 in the queue")
    office.jobs.jobs["job-2"] = Status.SUCCEEDED
    office.closed = ["job-2"]
    office.gateway.tend()
    assert list(office.jobs.jobs) == names[:4]
    assert office.gateway.status("job-4") == ("RUNNING", "")
    assert office.gateway.status("job-6") == ("QUEUED", "place 2 in the queue")


def test_a_job_without_a_request_takes_no_place(office: Office) -> None:
    office.opened_elsewhere = ["no-request"]
    office.most_drivers = 1
    office.open_gateway()
    office.gateway.open_job(office.signed(OPEN), b"request")
    assert office.gateway.status("job-1") == ("RUNNING", "")


def test_a_driver_that_died_starts_again_before_younger_jobs(office: Office) -> None:
    for number in range(1, 5):
        office.gateway.open_job(office.signed(replace(OPEN, job=f"job-{number}")), b"request")
    office.jobs.jobs["job-1"] = Status.FAILED
    office.gateway.tend()
    assert "job-1-2" in office.jobs.jobs
    assert "job-4" not in office.jobs.jobs


def test_a_job_that_waits_for_its_next_driver_has_not_failed(office: Office) -> None:
    for number in range(1, 5):
        office.gateway.open_job(office.signed(replace(OPEN, job=f"job-{number}")), b"request")
    office.jobs.jobs["job-1"] = Status.FAILED
    office.jobs.jobs["job-4"] = Status.RUNNING  # another head's gateway has started it
    assert office.gateway.status("job-1") == ("QUEUED", "place 1 in the queue")


def test_a_driver_that_has_just_died_is_started_again_at_the_first_question(
    office: Office,
) -> None:
    """Regression: a look at all jobs in the second before made the job a failed one."""
    office.freeze_clock()
    office.gateway.open_job(office.signed(OPEN), b"request")
    office.jobs.jobs["job-1"] = Status.FAILED
    assert office.gateway.status("job-1") == ("RUNNING", "")
    assert list(office.jobs.jobs) == ["job-1", "job-1-2"]


def test_questions_about_any_id_do_not_read_all_jobs_each_time(office: Office) -> None:
    office.freeze_clock()
    office.gateway.open_job(office.signed(OPEN), b"request")
    office.ledger.asked.clear()
    for number in range(20):
        office.gateway.status(f"nonsense-{number}")
    assert [view for view, _ in office.ledger.asked].count("open_jobs") == 0


def test_a_cancelled_job_leaves_the_queue(office: Office) -> None:
    for number in range(1, 5):
        office.gateway.open_job(office.signed(replace(OPEN, job=f"job-{number}")), b"request")
    office.closed = ["job-4"]
    office.gateway.tend()
    assert office.gateway.status("job-4") == ("STOPPED", "")


def test_a_driver_that_failed_and_closed_its_job_stays_ended(office: Office) -> None:
    office.gateway.open_job(office.signed(OPEN), b"request")
    office.jobs.jobs["job-1"] = Status.FAILED
    office.closed = ["job-1"]
    office.gateway.tend()
    assert office.gateway.status("job-1")[0] == "FAILED"


def test_an_old_order_starts_no_driver_of_a_closed_job_under_a_new_head(office: Office) -> None:
    office.gateway.open_job(office.signed(OPEN), b"request")
    office.closed = ["job-1"]
    office.jobs.jobs.clear()
    assert office.gateway.open_job(office.signed(OPEN), b"request") == office.receipt
    assert office.jobs.jobs == {}


def test_jobs_that_ended_before_a_restart_of_the_head_have_the_state_of_their_result(
    office: Office,
) -> None:
    assert office.gateway.status("job-1")[0] == "STOPPED", "closed, and no result"
    office.objects.put("files/job-1.result", b'{"state":"done"}')
    assert office.gateway.status("job-1") == ("SUCCEEDED", "")
    office.objects.put("files/job-2.result", b'{"state":"failed"}')
    assert office.gateway.status("job-2") == ("FAILED", "")
    assert office.gateway.status("../job-1") == ("", "")


def test_a_job_is_over_once_its_summary_is_there(office: Office) -> None:
    office.gateway.open_job(office.signed(OPEN), b"request")
    assert office.gateway.status("job-1") == ("RUNNING", "")
    office.objects.put("files/job-1.result", b'{"state":"done"}')
    assert office.gateway.status("job-1") == ("SUCCEEDED", ""), "its driver still exits"


def test_the_gateway_answers_while_the_authority_does_not(office: Office) -> None:
    office.ledger.unreachable = Unreachable("no ledger answers")
    assert office.gateway.status("job-1") == ("", "")


def test_only_orders_of_the_right_kind_are_passed_on(office: Office) -> None:
    other = office.signed(Join(name="x"))
    assert office.gateway.open_job(other, b"")["refused"] == Reason.UNKNOWN_OPERATION
    assert office.gateway.close_job(other)["refused"] == Reason.UNKNOWN_OPERATION
    forged = {**office.signed(OPEN), "signature": office.signed(Join(name="x"))["signature"]}
    assert office.gateway.open_job(forged, b"")["refused"] == Reason.BAD_SIGNATURE


def test_what_is_too_large_is_refused_by_its_size(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = office.gateway.open_job(office.signed(OPEN), bytes(REQUEST_BYTES + 1))
    assert answer["refused"] == "too large"
    assert f"{REQUEST_BYTES:,}" in answer["detail"]
    monkeypatch.setattr(gateway, "OBJECT_BYTES", 10)
    assert office.gateway.put("data/" + "00" * 32, bytes(11))["refused"] == "too large"
    assert OBJECT_BYTES > REQUEST_BYTES


def test_only_an_allowed_close_stops_the_driver(office: Office) -> None:
    office.gateway.open_job(office.signed(OPEN), b"request")
    close = office.signed(CloseJob(job="job-1"))
    for reason, stops in (
        (Reason.NOT_YOUR_JOB, 0),
        (Reason.JOB_CLOSED, 0),
        (Reason.SEGMENTS_UNSETTLED, 1),
        (None, 2),
    ):
        office.ledger.refuses = Refused(reason) if reason else None
        office.gateway.close_job(close)
        assert len(office.jobs.stopped) == stops
    office.jobs.jobs["job-1"] = Status.FAILED
    office.gateway.close_job(close)
    assert len(office.jobs.stopped) == 2, "a driver that has ended is not stopped"


def test_a_failed_driver_shows_the_end_of_its_log(office: Office) -> None:
    office.gateway.open_job(office.signed(OPEN), b"request")
    assert office.gateway.status("job-1") == ("RUNNING", "")
    office.jobs.jobs["job-1"] = Status.FAILED
    office.closed = ["job-1"]
    status, log = office.gateway.status("job-1")
    assert (status, len(log), log[-3:]) == ("FAILED", gateway.LOG_CHARACTERS, "end")


def test_clients_store_only_bytes_with_the_stated_digest(office: Office) -> None:
    bundle = bundle_of(small_programs.Small)
    Blobs(office.objects).put_bundle(bundle)
    data = office.objects.get(f"bundles/{bundle.digest}")
    assert office.gateway.put(f"bundles/{bundle.digest}", data) == {}
    assert office.gateway.put("bundles/" + "00" * 32, data)["refused"] == Reason.MALFORMED
    assert office.gateway.put(f"manifests/{bundle.digest}", b"{")["refused"] == Reason.MALFORMED
    for key in ("files/job-1.request", "states/" + "00" * 32, "specs/" + "00" * 32, "data"):
        assert "refused" in office.gateway.put(key, data)


def test_clients_read_states_and_specs(office: Office) -> None:
    for kind in ("states", "specs"):
        key = f"{kind}/{'00' * 32}"
        assert office.gateway.get(key) is None
        office.objects.put(key, b"stored")
        assert office.gateway.get(key) == b"stored"


@pytest.mark.parametrize(
    "key",
    [
        "files/job-1.request",
        "files/../job-1.result",
        "states/../files/job-1.request",
        "specs/../files/job-1.request",
        "secrets/key",
    ],
)
def test_clients_see_no_request_and_nothing_outside(office: Office, key: str) -> None:
    office.objects.put("files/job-1.request", b"driver seed")
    office.objects.put("secrets/key", b"x")
    assert office.gateway.get(key) is None


def test_clients_see_results_and_states(office: Office) -> None:
    for key in ("files/job-1.result", "states/" + "0a" * 32):
        assert office.gateway.get(key) is None
        office.objects.put(key, b"x")
        assert office.gateway.get(key) == b"x"


def test_of_tunes_files_clients_get_those_of_one_job_that_a_result_needs(office: Office) -> None:
    trial = office.runs / "job-1" / "trial"
    trial.mkdir(parents=True)
    for path in ("experiment_state-1.json", "trial/result.json", "trial/error.pkl", "tuner.pkl"):
        (office.runs / "job-1" / path).write_bytes(b"x")
    assert set(office.gateway.run_files("job-1")) == {
        "job-1/experiment_state-1.json",
        "job-1/trial/result.json",
    }
    assert office.gateway.run_files("job-2") == {}
    assert office.gateway.run_files("..") == {}
