"""The demo's picture: an SVG of the result without external references."""

import re
from typing import Any

from gensyn_ray.cli.demo import svg_of

CONTENT: dict[str, Any] = {
    "job": {
        "id": "sweep-1",
        "state": "done",
        "trials": 2,
        "wall_s": 12.5,
        "best": {"config": {"lr": 0.1}, "value": 0.99},
        "winner": {"task": "t001", "segments": 8, "replayed": 8},
    },
    "segments": {"committed": 16, "audited": 8, "rejected": 1},
    "operators": [
        {
            "id": "0af3",
            "name": "volunteer-1",
            "numerics": "0123456789ab",
            "earned_micro": 8_000_000,
            "slashed_micro": 0,
            "stake_micro": 100_000_000,
            "committed": 8,
        }
    ],
    "rulings": [],
    "detection": {
        "bad_segments": 8,
        "rate_ppm": 400_000,
        "probability": 0.983,
        "latency_s": {"median": 4.0, "worst": 9.0},
    },
    "ledger": {"journal": "runs/sweep-1/journal", "entries": 120, "public_key": "6d4c"},
}


def test_the_picture_shows_the_result_and_refers_to_no_other_file() -> None:
    svg = svg_of(CONTENT, {"volunteer-1": "avx2"}, seed=3)
    assert svg.startswith("<svg")
    assert "volunteer-1" in svg
    references = re.findall(r"(?:url\(|href=|src=)\"?([^\")]+)", svg)
    assert [one for one in references if not one.startswith("#")] == []
