"""Run many seeds; prints the first seed that fails, with the reason."""

import argparse
import sys
import tempfile
from pathlib import Path

from gensyn_ray.testnet.simulator.simulation import shape_of, simulate


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate the whole protocol")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            jobs, batches = shape_of(seed)
            try:
                simulate(seed, Path(folder) / "flat", jobs=jobs, batches=batches)
            except AssertionError as error:
                sys.exit(str(error))
    print(f"seeds {seeds.start} to {seeds.stop - 1}: every check holds")


if __name__ == "__main__":
    main()
