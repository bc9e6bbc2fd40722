"""Where the network's objects are: `file:///FOLDER` or `s3://BUCKET/PREFIX?OPTIONS`.

Options of a bucket, as `pyarrow.fs` spells them: `endpoint_override` (HOST:PORT of a store that is
not Amazon's), `scheme` (https unless it says http), `region`, `tls_ca_file_path`.

An address is handed to every node and stands on command lines, so it may hold no credentials:
those come from the environment (`AWS_ACCESS_KEY_ID` and so on) or the key files of the processes
that have any.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from gensyn_ray.domain.errors import UsageError

FORMS = "file:///FOLDER or s3://BUCKET/PREFIX?endpoint_override=HOST:PORT&scheme=https&region=NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderAddress:
    """A folder of this machine, or one that is mounted on it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAddress:
    """A part of a bucket. `prefix` is empty or ends in a slash. Shown without its options."""

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
        """Where the store answers; None for Amazon's own."""
        return f"{self.scheme}://{self.endpoint_override}" if self.endpoint_override else None


def parse(uri: str) -> FolderAddress | BucketAddress:
    """The address that a URI spells. Raises `UsageError`, which never repeats a credential."""
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
