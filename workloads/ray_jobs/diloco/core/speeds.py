"""The speed by which a group of workers is measured."""

import statistics
from collections.abc import Sequence


def usual_speed(speeds: Sequence[float]) -> float:
    """Upper median of the measured speeds; one inflated claim cannot raise it. 0 without any."""
    return statistics.median_high(speeds) if speeds else 0.0
