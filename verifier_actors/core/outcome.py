"""What an audit finds, from the results that were signed.

A verifier signs the digest of what it computed, never whether it agrees: comparing is the
authority's. One replay that differs from the claim opens a dispute; the referee's own replay, made
by another key, settles it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from gensyn_ray.domain import canonical


class Outcome(StrEnum):
    """The four ends of an audit."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNAVAILABLE = "UNAVAILABLE"


UNAVAILABLE_RESULT = "unavailable"
"""What a verifier signs when the stored predecessor cannot be had."""


def result_digest(state_after: str, metrics: Mapping[str, Any]) -> str:
    """What a replay is compared by: the end state's digest and the metrics, to the bit."""
    return canonical.digest({"state_after": state_after, "metrics": dict(metrics)})


def compare(claimed: str, verifier: str, referee: str | None) -> Outcome | None:
    """The outcome, or None while the referee's replay is still needed.

    | verifier    | referee              | outcome |
    |-------------|----------------------|---------|
    | as claimed  | -                    | ACCEPT |
    | unavailable | -                    | UNAVAILABLE |
    | differs     | as claimed           | INCONCLUSIVE: two replays differ |
    | differs     | as the verifier      | REJECT: two replays agree against the claim |
    | differs     | a third result       | INCONCLUSIVE |
    | differs     | unavailable          | UNAVAILABLE |
    """
    if verifier == claimed:
        return Outcome.ACCEPT
    if UNAVAILABLE_RESULT in (verifier, referee):
        return Outcome.UNAVAILABLE
    if referee is None:
        return None
    return Outcome.REJECT if referee == verifier else Outcome.INCONCLUSIVE
