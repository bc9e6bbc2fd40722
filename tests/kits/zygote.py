"""A process that has imported everything and forks authorities: `python -m tests.kits.zygote`.

Reads lines `HOME ADDRESS` and answers each with the pid of a fresh authority that serves them. An
interpreter that starts from nothing takes seconds; a fork takes milliseconds, and runs the same
code.
"""

import os
import signal
import sys
import traceback
from pathlib import Path

from gensyn_ray.services import authority, authority_daemon

LINKS = 1 << 8
"""A short beacon chain: computing the usual one would take longer than a trial."""


def main() -> None:
    authority.BEACON_LINKS = LINKS
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        home, address = line.split()
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            try:
                authority_daemon.serve(Path(home), address)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
