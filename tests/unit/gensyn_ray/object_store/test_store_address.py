"""Addresses of object stores, and retries if a store does not answer."""

import pickle
from pathlib import Path

import pytest
from pyarrow import fs

from gensyn_ray.domain.errors import Unreachable, UsageError
from gensyn_ray.object_store.address import BucketAddress, FolderAddress, parse
from gensyn_ray.object_store.opening import is_bucket, open_files
from gensyn_ray.object_store.retry import RetryPolicy, Transient

LOCAL = "s3://bucket/some/prefix/?endpoint_override=127.0.0.1:9000&scheme=http&region=eu-1"


def test_a_bucket_with_everything() -> None:
    address = parse(LOCAL)
    assert address == BucketAddress(
        bucket="bucket",
        prefix="some/prefix/",
        endpoint_override="127.0.0.1:9000",
        scheme="http",
        region="eu-1",
    )
    assert address.endpoint_url == "http://127.0.0.1:9000"
    assert str(address) == "s3://bucket/some/prefix"


def test_an_amazon_bucket() -> None:
    address = parse("s3://bucket")
    assert isinstance(address, BucketAddress)
    assert (address.prefix, address.endpoint_url, str(address)) == ("", None, "s3://bucket")


def test_a_folder() -> None:
    assert parse("file:///a/b%20c") == FolderAddress(path=Path("/a/b c"))
    assert [is_bucket(uri) for uri in ("file:///a", "s3://b")] == [False, True]


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "no scheme"),
        ("/a/folder", "no scheme"),
        ("gs://bucket/x", "'gs'"),
        ("file://host/folder", "'file'"),
        ("s3://", "'s3'"),
        ("s3://bucket?access_key=x", "access_key"),
        ("s3://bucket?scheme=ftp", "http or https"),
    ],
)
def test_an_invalid_address_is_refused(uri: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(uri)


def test_credentials_in_an_address_are_refused() -> None:
    with pytest.raises(UsageError, match="AWS_SECRET_ACCESS_KEY") as raised:
        parse("s3://KEYID:TOPSECRET@bucket/prefix")
    assert "KEYID" not in str(raised.value)
    assert "TOPSECRET" not in str(raised.value)


def test_what_tune_sends_to_volunteers_holds_no_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "TOPSECRET")
    filesystem, path = open_files(LOCAL, "runs")
    assert path == "bucket/some/prefix/runs"
    sent = pickle.dumps(filesystem)
    assert b"TOPSECRET" not in sent
    assert isinstance(pickle.loads(sent), fs.S3FileSystem)


def test_tunes_files_stay_beside_a_folder(tmp_path: Path) -> None:
    filesystem, path = open_files(tmp_path.as_uri(), "runs")
    assert isinstance(filesystem, fs.LocalFileSystem)
    assert path == str(tmp_path / "runs")


def retry(pauses_s: list[float], **other: int) -> RetryPolicy:
    return RetryPolicy(sleep=pauses_s.append, jitter=lambda: 0.0, longest_pause_s=1.0, **other)


def test_retries_are_limited_and_back_off() -> None:
    pauses_s: list[float] = []

    def fail() -> None:
        raise Transient("status 503")

    with pytest.raises(Unreachable, match=r"reading x failed 6 times, last: status 503; .* again"):
        retry(pauses_s).run(fail, what="reading x")
    assert pauses_s == [0.125, 0.25, 0.5, 0.5, 0.5], "half a pause where jitter is least"


def test_the_first_success_ends_the_retries() -> None:
    pauses_s: list[float] = []
    outcomes = iter([Transient("a"), Transient("b"), None])

    def third_time() -> str:
        if (problem := next(outcomes)) is not None:
            raise problem
        return "done"

    assert retry(pauses_s).run(third_time, what="x") == "done"
    assert len(pauses_s) == 2


def test_other_errors_are_not_retried() -> None:
    pauses_s: list[float] = []

    def fail() -> None:
        raise UsageError("no")

    with pytest.raises(UsageError):
        retry(pauses_s).run(fail, what="x")
    assert pauses_s == []
