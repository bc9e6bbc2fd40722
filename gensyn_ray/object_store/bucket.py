"""Objects in a bucket, for processes that have its credentials. Uses `pyarrow.fs`.

A bucket shows only whole objects, so a put needs no temporary file. A large object is uploaded in
parts and appears after the last part.

Not covered: parts of an interrupted upload stay in the bucket until its lifecycle rules remove
them. Not defended: a holder of the credentials can replace any object; readers check digests.
"""

import os
import re

from pyarrow import fs

from gensyn_ray.domain.errors import OperationError
from gensyn_ray.object_store.address import BucketAddress
from gensyn_ray.object_store.objects import Missing
from gensyn_ray.object_store.retry import RetryPolicy, Transient

CONNECT_TIMEOUT_S = 5.0
FINAL = {
    "ACCESS_DENIED": "the store forbids it: check the rights of these credentials",
    "INVALID_ACCESS_KEY_ID": "the store does not know these credentials: check AWS_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID": "the store does not know these credentials: check them",
    "SIGNATURE_DOES_NOT_MATCH": "the store does not take these credentials: check "
    "AWS_SECRET_ACCESS_KEY and this machine's clock",
    "NO_SUCH_BUCKET": "there is no such bucket: create it, or correct the store's address",
    "MISSING_AUTHENTICATION_TOKEN": "no credentials: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY",
}
"""Errors that another attempt cannot fix, and what to do about each."""
STATUS = {"403": "ACCESS_DENIED", "404": "NO_SUCH_BUCKET"}
"""Errors by HTTP status, for answers without a body, which name no error."""


def open_filesystem(
    address: BucketAddress, retry: RetryPolicy, *, attempts: int
) -> fs.S3FileSystem:
    """The bucket's file system. Makes no request.

    `attempts`: of each request inside pyarrow; 0 if the caller retries.
    """
    # Without these the SDK adds checksums that stores other than Amazon's refuse. The objects'
    # digests detect the same errors.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    return fs.S3FileSystem(
        region=address.region,
        scheme=address.scheme,
        endpoint_override=address.endpoint_override or None,
        tls_ca_file_path=address.tls_ca_file_path or None,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=retry.timeout_s,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        allow_delayed_open=True,  # a small object is one request then, not three
    )


class Bucket:
    """Implements `Objects`."""

    def __init__(self, address: BucketAddress, retry: RetryPolicy | None = None) -> None:
        self._address = address
        self._retry = retry or RetryPolicy()
        # `RetryPolicy` alone retries.
        self._fs = open_filesystem(address, self._retry, attempts=0)
        self._root = f"{address.bucket}/{address.prefix}"

    def put(self, key: str, data: bytes) -> None:
        what = f"storing {self._name(key)}"
        self._retry.run(lambda: self._write(key, data, what), what=what)

    def get(self, key: str) -> bytes:
        what = f"reading {self._name(key)}"
        return self._retry.run(lambda: self._read(key, what), what=what)

    def _name(self, key: str) -> str:
        return f"s3://{self._root}{key}"

    def _write(self, key: str, data: bytes, what: str) -> None:
        try:
            with self._fs.open_output_stream(self._root + key) as stream:
                stream.write(data)
        except OSError as error:
            raise _meaning(error, what) from None

    def _read(self, key: str, what: str) -> bytes:
        try:
            with self._fs.open_input_file(self._root + key) as file:
                size, data = file.size(), file.read()
        except FileNotFoundError:
            raise Missing(f"the object store has no {self._name(key)}") from None
        except OSError as error:
            raise _meaning(error, what) from None
        if len(data) != size:
            raise Transient(f"{len(data)} of {size} bytes came")
        return data


def _meaning(error: OSError, what: str) -> OperationError | Transient:
    """The exception for a store's error. Repeats only the error's name, because its text may hold
    a key id."""
    text = str(error)
    found = re.search(r"AWS Error ([A-Z0-9_]+)", text)
    status = re.search(r"HTTP status(?: code)?:? (\d{3})", text, re.IGNORECASE)
    name = found[1] if found else type(error).__name__
    if name not in FINAL and status is not None:
        name = STATUS.get(status[1], name)
    if name in FINAL:
        return OperationError(f"{what} failed: {FINAL[name]}")
    return Transient(name.lower().replace("_", " ") + (f", status {status[1]}" if status else ""))
