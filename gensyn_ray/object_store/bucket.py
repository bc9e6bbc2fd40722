"""Objects in a bucket, for the network's own processes: they have credentials of their own.

Over `pyarrow.fs`. A put needs no moving into place, because a bucket shows whole objects alone;
what is larger than a part travels in several and appears when the last one is there.

Not covered: a lost upload's parts stay in the bucket until its lifecycle rules remove them. Not
defended: whoever holds the credentials can replace anything; readers check digests.
"""

import os
import re

from pyarrow import fs

from gensyn_ray.domain.errors import OperationError
from gensyn_ray.object_store.address import BucketAddress
from gensyn_ray.object_store.objects import Missing
from gensyn_ray.object_store.retrying import Patience, Transient

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
"""Errors that another attempt will not mend."""
STATUS = {"403": "ACCESS_DENIED", "404": "NO_SUCH_BUCKET"}
"""What bare HTTP statuses mean: an answer without a body has no name for its error."""


def open_filesystem(
    address: BucketAddress, patience: Patience, *, attempts: int
) -> fs.S3FileSystem:
    """The file system that a bucket is in. Makes no request. `attempts`: of each request, for users
    who do not try again themselves."""
    # Without these the SDK adds checksums that stores other than Amazon's refuse. What they would
    # find, readers find by the objects' digests.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    return fs.S3FileSystem(
        region=address.region,
        scheme=address.scheme,
        endpoint_override=address.endpoint_override or None,
        tls_ca_file_path=address.tls_ca_file_path or None,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=patience.timeout_s,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        allow_delayed_open=True,  # a small object is one request then, not three
    )


class Bucket:
    """Implements `Objects`."""

    def __init__(self, address: BucketAddress, patience: Patience | None = None) -> None:
        self._address = address
        self._patience = patience or Patience()
        # Attempts are counted in one place, `Patience`.
        self._fs = open_filesystem(address, self._patience, attempts=0)
        self._root = f"{address.bucket}/{address.prefix}"

    def put(self, key: str, data: bytes) -> None:
        what = f"storing {self._name(key)}"
        self._patience.persist(lambda: self._write(key, data, what), what=what)

    def get(self, key: str) -> bytes:
        what = f"reading {self._name(key)}"
        return self._patience.persist(lambda: self._read(key, what), what=what)

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
    """What is raised instead. Of the store's own words only the error's name is repeated: they may
    quote a key id."""
    text = str(error)
    found = re.search(r"AWS Error ([A-Z0-9_]+)", text)
    status = re.search(r"HTTP status(?: code)?:? (\d{3})", text, re.IGNORECASE)
    name = found[1] if found else type(error).__name__
    if name not in FINAL and status is not None:
        name = STATUS.get(status[1], name)
    if name in FINAL:
        return OperationError(f"{what} failed: {FINAL[name]}")
    return Transient(name.lower().replace("_", " ") + (f", status {status[1]}" if status else ""))
