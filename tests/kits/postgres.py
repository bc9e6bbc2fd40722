"""A PostgreSQL server for tests, in a temporary folder, on a Unix socket, without a TCP port.

    with running_postgres() as conninfo:
        PostgresJournal(conninfo)

The server is that of Debian's package `postgresql`, or of the `initdb` on the path. It refuses to
run as root. Root's tests start it as `postgres`, or as `nobody` if that user is missing.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

CALL_S = 90


def postgres_binaries() -> Path | None:
    """The folder with `initdb` and `pg_ctl`: Debian's newest, else the path's, else None."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def running_postgres(*settings: str) -> Iterator[str]:
    """Run an empty server; yields its address. Skips the test if PostgreSQL is not installed.

    `settings`: of the server, such as "fsync=off".
    """
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: neither /usr/lib/postgresql/*/bin/initdb nor initdb on PATH")
    user = _server_user()
    # The path of a socket has at most 107 bytes. Pytest's temporary folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    data, log = folder / "data", folder / "log"

    def call(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(binaries / program), "-D", str(data), *arguments],
            **user,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CALL_S,
            check=False,
        )
        if done.returncode:
            said = log.read_text() if log.exists() else ""
            raise RuntimeError(f"{program} failed: {done.stdout}{said}")

    if user:
        shutil.chown(folder, user["user"], user["group"])
    try:
        call("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8")
        where = ("listen_addresses=", f"unix_socket_directories={folder}")
        options = " ".join(f"-c {one}" for one in (*where, *settings))
        call("pg_ctl", "start", "--wait", "--log", str(log), "-o", options)
        yield f"postgresql://postgres@/postgres?host={quote(str(folder), safe='')}"
    finally:
        if (data / "postmaster.pid").exists():
            call("pg_ctl", "stop", "--wait", "--mode=immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _server_user() -> dict[str, Any]:
    """Arguments of `subprocess` for the server's user; empty for the present user."""
    if os.geteuid() != 0:
        return {}
    users = {user.pw_name: user for user in pwd.getpwall()}
    user = users.get("postgres") or users["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
