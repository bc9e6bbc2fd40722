"""Addresses of the object store: `file:///FOLDER` or `s3://BUCKET/PREFIX?OPTIONS`.

Options of a bucket, named as in `pyarrow.fs`: `endpoint_override` (HOST:PORT of a store other than
Amazon's), `scheme` (https by default, or http), `region`, `tls_ca_file_path`.

An address must not hold credentials, because every node gets it and command lines show it. A
process takes its credentials from its environment (`AWS_ACCESS_KEY_ID` and others) or its key
files.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from gensyn_ray.domain.errors import UsageError

FORMS = "file:///FOLDER or s3://BUCKET/PREFIX?endpoint_override=HOST:PORT&scheme=https&region=NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderAddress:
    """A local or mounted folder."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAddress:
    """A prefix of a bucket. `prefix` is empty or ends in a slash. `str` omits the options."""

    bucket: str
    prefix: str = ""
    endpoint_override: str = ""
    scheme: str = "https"
    region: str = "us-east-1"
    tls_ca_file_path: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def endpoint_url(self) -> str | None:
        """The store's endpoint; None for Amazon's own."""
        return f"{self.scheme}://{self.endpoint_override}" if self.endpoint_override else None


def parse(uri: str) -> FolderAddress | BucketAddress:
    """Parse a URI. Raises `UsageError`, whose message never holds a credential."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return FolderAddress(path=Path(unquote(parts.path)))
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(f"{parts.scheme or 'no scheme'!r} is no object store: give {FORMS}")
    if "@" in parts.netloc:
        raise UsageError(
            "an object store's address may hold no credentials, because every node sees it: set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where the head, the verifiers and the "
            "presigner start"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = {"endpoint_override", "scheme", "region", "tls_ca_file_path"}
    if unknown := sorted(set(options) - known):
        raise UsageError(f"an object store has no option {unknown[0]!r}: give {FORMS}")
    if options.get("scheme", "https") not in ("http", "https"):
        raise UsageError(f"an object store's scheme is http or https: give {FORMS}")
    prefix = unquote(parts.path).strip("/")
    return BucketAddress(bucket=parts.netloc, prefix=f"{prefix}/" if prefix else "", **options)
