"""Faults of networks and busy stores. The client gets the object after some attempts, or an error
that names the object and no secret."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
import torch

from gensyn_ray.domain.errors import OperationError, Unreachable
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.object_store.bucket import Bucket
from gensyn_ray.object_store.objects import Missing, Objects
from gensyn_ray.object_store.opening import open_files
from gensyn_ray.object_store.retry import RetryPolicy
from gensyn_ray.testnet.processes import free_port
from tests.kits.faulty_proxy import Fault, FaultyProxy
from tests.kits.places import address_of, presigned
from tests.kits.s3_servers import BUCKET, S3Server
from workloads.core.state import state_digest

NAME = "cd" * 32
KEY = f"states/{NAME}"
STATE = {"weight": torch.arange(5_000.0)}
DIGEST = state_digest(STATE)
PASSING = [Fault.SLOW_DOWN, Fault.SERVER_ERROR, Fault.RESET, Fault.SILENCE]
ATTEMPTS = 4


@dataclass(slots=True)
class Recorder:
    """Replaces `time.sleep`."""

    pauses_s: list[float] = field(default_factory=list[float])

    def __call__(self, seconds: float) -> None:
        self.pauses_s.append(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A store behind a faulty proxy. `behind`: the same store without the proxy."""

    proxy: FaultyProxy
    objects: Objects
    behind: Objects
    sleep: Recorder
    secrets: list[str]

    def check_says_no_secret(self, error: BaseException) -> None:
        """The error names bucket and key, but no credentials and no link's signature."""
        text = str(error)
        assert f"s3://{BUCKET}/" in text
        assert not any(secret in text for secret in self.secrets), text
        assert "ignature=" not in text


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(moto.port) as running:
        yield running


@pytest.fixture(params=["direct", "links"])
def line(
    request: pytest.FixtureRequest,
    moto: S3Server,
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> Line:
    for name, value in moto.credentials.items():
        monkeypatch.setenv(name, value)
    sleep = Recorder()
    retry = RetryPolicy(attempts=ATTEMPTS, timeout_s=1.0, sleep=sleep, jitter=lambda: 1.0)
    prefix = f"faults/{request.node.name}"
    direct, faulty = moto.uri_at(moto.port, prefix), moto.uri_at(proxy.port, prefix)
    return Line(
        proxy=proxy,
        objects=(
            Bucket(address_of(faulty), retry)
            if request.param == "direct"
            # Only the volunteer's connection is faulty; the presigner reaches the store.
            else presigned(direct, at=f"http://127.0.0.1:{proxy.port}", retry=retry)
        ),
        behind=Bucket(address_of(direct)),
        sleep=sleep,
        secrets=list(moto.credentials.values())[:2],
    )


@pytest.mark.parametrize("fault", [*PASSING, Fault.TRUNCATED])
def test_reads_survive_temporary_faults(line: Line, fault: Fault) -> None:
    data = bytes(range(256)) * 100
    line.behind.put(KEY, data)
    line.proxy.plan("GET", fault, fault)
    assert line.objects.get(KEY) == data
    assert line.proxy.left() == 0
    # The SDK itself reopens a connection that broke while it was idle.
    pauses = 1 if fault is Fault.RESET and isinstance(line.objects, Bucket) else 2
    assert line.sleep.pauses_s[:pauses] == [0.25, 0.5][:pauses]
    assert len(line.sleep.pauses_s) <= 2


@pytest.mark.parametrize("fault", [*PASSING, Fault.LOST_ANSWER])
def test_writes_survive_temporary_faults(line: Line, fault: Fault) -> None:
    line.proxy.plan("PUT", fault)
    Blobs(line.objects).put_state(DIGEST, STATE)
    assert state_digest(Blobs(line.behind).get_state(DIGEST)) == DIGEST


def test_a_link_is_not_used_for_what_was_stored_already(line: Line) -> None:
    line.proxy.plan("PUT", Fault.LOST_ANSWER)
    Blobs(line.objects).put_state(DIGEST, STATE)
    # A holder of credentials writes again; a volunteer learns that the object is there, and whole.
    puts = 2 if isinstance(line.objects, Bucket) else 1
    assert line.proxy.seen.count("PUT") == puts


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.RESET, Fault.LOST_ANSWER])
def test_a_multipart_upload_survives_temporary_faults(
    line: Line, method: str, fault: Fault
) -> None:
    data = bytes(range(250)) * (26_000_000 // 250)
    line.proxy.plan(method, fault)
    line.objects.put(KEY, data)
    assert line.behind.get(KEY) == data


@pytest.mark.parametrize("fault", PASSING)
def test_a_permanent_fault_ends_in_one_error(line: Line, fault: Fault) -> None:
    for method in ("GET", "HEAD", "PUT"):
        line.proxy.always(method, fault)
    # A silent server takes a timeout to detect, so one place tests it.
    actions = [lambda: line.objects.get(KEY), lambda: line.objects.put(KEY, b"x")]
    for action in actions[:1] if fault is Fault.SILENCE else actions:
        line.sleep.pauses_s.clear()
        with pytest.raises(Unreachable, match=KEY) as raised:
            action()
        line.check_says_no_secret(raised.value)
        assert "try again" in str(raised.value)
        assert line.sleep.pauses_s == [0.25, 0.5, 1.0], "bounded, and slower each time"


def test_a_cut_body_is_never_taken_for_the_whole(line: Line) -> None:
    line.behind.put(KEY, b"0123456789" * 1_000)
    line.proxy.always("GET", Fault.TRUNCATED)
    with pytest.raises(Unreachable, match=KEY) as raised:
        line.objects.get(KEY)
    line.check_says_no_secret(raised.value)


def test_other_bytes_under_a_digest_are_missing(line: Line) -> None:
    Blobs(line.behind).put_state(DIGEST, STATE)
    line.proxy.always("GET", Fault.OTHER_BYTES)
    with pytest.raises(Missing, match=DIGEST[:12]):
        Blobs(line.objects).get_state(DIGEST)


def test_a_forbidden_request_is_not_retried(line: Line) -> None:
    for method in ("GET", "HEAD", "PUT"):
        line.proxy.always(method, Fault.FORBIDDEN)
    for action in (lambda: line.objects.get(KEY), lambda: line.objects.put(KEY, b"x")):
        line.proxy.seen.clear()
        with pytest.raises(OperationError, match="forbids it") as raised:
            action()
        assert not isinstance(raised.value, Missing | Unreachable)
        line.check_says_no_secret(raised.value)
        assert len(line.proxy.seen) == 1


def test_a_missing_key_is_not_retried(line: Line) -> None:
    with pytest.raises(Missing, match=KEY) as raised:
        line.objects.get(KEY)
    line.check_says_no_secret(raised.value)
    assert line.sleep.pauses_s == []


def test_an_unreachable_address_is_named(moto: S3Server) -> None:
    sleep = Recorder()
    address = replace(address_of(moto.uri), endpoint_override=f"127.0.0.1:{free_port()}")
    bucket = Bucket(address, RetryPolicy(attempts=2, timeout_s=1.0, sleep=sleep))
    with pytest.raises(Unreachable, match=KEY):
        bucket.get(KEY)
    assert len(sleep.pauses_s) == 1


class TestRealRefusals:
    """Errors of a server that checks signatures."""

    @pytest.fixture
    def bucket(self, ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
        for name, value in ceph.credentials.items():
            monkeypatch.setenv(name, value)
        return Bucket(address_of(ceph.uri))

    @pytest.mark.parametrize(
        ("variable", "expected"),
        [("AWS_SECRET_ACCESS_KEY", "clock"), ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID")],
    )
    def test_wrong_credentials(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, variable: str, expected: str
    ) -> None:
        monkeypatch.setenv(variable, "SOMEBODYELSES")
        for action in (lambda: bucket.get(KEY), lambda: bucket.put(KEY, b"x")):
            with pytest.raises(OperationError, match=KEY) as raised:
                action()
            assert not isinstance(raised.value, Missing | Unreachable)
            assert "SOMEBODYELSES" not in str(raised.value)
        with pytest.raises(OperationError, match=expected):
            bucket.put(KEY, b"x")

    def test_no_such_bucket(self, ceph: S3Server, bucket: Bucket) -> None:
        elsewhere = Bucket(replace(address_of(ceph.uri), bucket="nowhere"))
        with pytest.raises(OperationError, match="no such bucket"):
            elsewhere.put(KEY, b"x")
        with pytest.raises(OperationError, match="nowhere"):
            elsewhere.get(KEY)


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.SERVER_ERROR, Fault.RESET])
def test_tunes_own_files_survive_temporary_faults(
    moto: S3Server, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    for name, value in moto.credentials.items():
        monkeypatch.setenv(name, value)
    files, folder = open_files(moto.uri_at(proxy.port, f"tune/{fault.name}"), "runs")
    proxy.plan("PUT", fault)
    files.create_dir(folder)
    proxy.plan("PUT", fault)
    state = b"{}" + bytes(4096)  # pyarrow does not retry if an error is longer than the file
    with files.open_output_stream(f"{folder}/state.json") as stream:
        stream.write(state)
    proxy.plan("GET", fault)
    with files.open_input_stream(f"{folder}/state.json") as stream:
        assert stream.readall() == state
    assert proxy.left() == 0
