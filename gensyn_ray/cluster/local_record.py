"""The record of this user's local network (`gensyn-ray up`), so that clients find it by themselves.

It is a file that only the user can read: it has the cluster's token. It is there while the network
runs.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from gensyn_ray.domain.records import from_json

DEFAULT_PATH = Path("~/.gensyn-ray/local.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRecord:
    """`address`: HOST:PORT of the Ray head. `token`: the cluster's. `key_file`: of a submitter with
    credits. `pid`, `started_s`: of the process that runs the network, and when it began, in seconds
    since 1970: another process can have its number later."""

    address: str
    token: str
    key_file: str
    pid: int
    started_s: float

    @classmethod
    def of_this_process(cls, *, address: str, token: str, key_file: str) -> "LocalRecord":
        """The record of a network that this process runs."""
        me = psutil.Process()
        return cls(
            address=address,
            token=token,
            key_file=key_file,
            pid=me.pid,
            started_s=me.create_time(),
        )


def write(record: LocalRecord, path: Path = DEFAULT_PATH) -> None:
    """Write the record, readable by its owner only."""
    file = path.expanduser()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w") as opened:
        opened.write(json.dumps(asdict(record)))


def read(path: Path = DEFAULT_PATH) -> LocalRecord | None:
    """The record of a network that runs; None if there is none, or its process has ended."""
    try:
        record = from_json(LocalRecord, json.loads(path.expanduser().read_text()))
        started_s = psutil.Process(record.pid).create_time()
    except (OSError, ValueError, TypeError, OverflowError, psutil.Error):
        return None
    return record if started_s == record.started_s else None


def remove(record: LocalRecord, path: Path = DEFAULT_PATH) -> None:
    """Remove this record. Another network's record stays."""
    if read(path) == record:
        path.expanduser().unlink(missing_ok=True)
