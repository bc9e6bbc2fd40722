"""The record of this user's local network (`gensyn-ray up`), so that clients find it by themselves.

It is a file that only the user can read: it has the cluster's token. It is there while the network
runs.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

DEFAULT_PATH = Path("~/.gensyn-ray/local.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRecord:
    """`address`: HOST:PORT of the Ray head. `token`: the cluster's. `key_file`: of a submitter with
    credits. `pid`: of the process that runs the network."""

    address: str
    token: str
    key_file: str
    pid: int


def write(record: LocalRecord, path: Path = DEFAULT_PATH) -> Path:
    """Write the record, readable by its owner only. Returns the file's path."""
    file = path.expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(record)))
    return file


def read(path: Path = DEFAULT_PATH) -> LocalRecord | None:
    """The record of a network that runs; None if there is none, or its process has ended."""
    try:
        record = LocalRecord(**json.loads(path.expanduser().read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return record if _is_running(record.pid) else None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as another user
        return True
    return True
