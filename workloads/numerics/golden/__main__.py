"""Command line of the golden files.

python -m workloads.numerics.golden record [OPERATOR...]    write the files that are missing
python -m workloads.numerics.golden verify                  compare every file
"""

import argparse
import sys
from collections.abc import Sequence

from gensyn_ray.domain.errors import OperationError, UsageError
from workloads.numerics.golden import trainings, vectors
from workloads.numerics.registry import LATEST


def main(argv: Sequence[str]) -> None:
    """Record or verify golden files. Raises `UsageError`, and `OperationError` if bits differ."""
    parser = argparse.ArgumentParser(prog="python -m workloads.numerics.golden")
    parser.add_argument("action", choices=["record", "verify"])
    parser.add_argument("operator", nargs="*", help="by default all of them")
    asked = parser.parse_args(argv)
    if asked.action == "record":
        for name in asked.operator or vectors.missing():
            print(f"{vectors.record(name).name}", flush=True)
        if not asked.operator and not trainings.path_of(LATEST).exists():
            print(trainings.record().name)
        return
    differing = vectors.verify(names=asked.operator or None)
    if not asked.operator:
        differing += [f"{name} has no file" for name in vectors.missing()] + trainings.verify()
    if differing:
        raise OperationError("; ".join(differing))
    print("every bit is as it was")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (UsageError, OperationError) as error:
        print(f"golden: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
