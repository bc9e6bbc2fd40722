"""The outcome of an audit, from the signed results.

A verifier signs the digest of its replay and does not see the claim. The authority compares the
two. A verdict that differs from the claim opens a dispute. The replay of a referee decides it.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """The four ends of an audit."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNAVAILABLE = "UNAVAILABLE"


UNAVAILABLE_RESULT = "unavailable"
"""The result that a verifier signs if the stored predecessor is lost."""


def compare(claimed: str, verifier_result: str, referee_result: str | None) -> Outcome | None:
    """The outcome; None if a referee's result is needed and missing.

    | verifier    | referee              | outcome |
    |-------------|----------------------|---------|
    | as claimed  | -                    | ACCEPT |
    | unavailable | -                    | UNAVAILABLE |
    | differs     | as claimed           | INCONCLUSIVE: two replays differ |
    | differs     | as the verifier      | REJECT: two replays agree against the claim |
    | differs     | a third result       | INCONCLUSIVE |
    | differs     | unavailable          | UNAVAILABLE |
    """
    if verifier_result == claimed:
        return Outcome.ACCEPT
    if UNAVAILABLE_RESULT in (verifier_result, referee_result):
        return Outcome.UNAVAILABLE
    if referee_result is None:
        return None
    return Outcome.REJECT if referee_result == verifier_result else Outcome.INCONCLUSIVE
