"""A process with all imports that forks authorities: `python -m tests.kits.zygote`.

Reads lines `HOME ADDRESS`. For each it forks an authority and prints its pid. A new interpreter
takes seconds to start; a fork takes milliseconds and runs the same code.
"""

import os
import signal
import sys
import traceback
from pathlib import Path

from gensyn_ray.services import authority, authority_daemon

LINKS = 1 << 8
"""A short beacon chain. The usual one takes longer to compute than a trial."""


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
