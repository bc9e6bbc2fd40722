"""The settings of a network, and the check for unsafe combinations.

Amounts are micro-credits, times are milliseconds, shares are millionths (ppm).
"""

from dataclasses import dataclass

from gensyn_ray.domain.money import MAX_MICRO

PPM = 1_000_000
MAX_MS = 10 * 366 * 86_400_000
"""Ten years: the longest time, so that sums stay below 2^53, the end of JSON's exact integers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The settings of one network.

    reserve_micro         stake that backs one operator's work in one job
    challenge_bond_micro  bond of a challenge; lost if it is dismissed
    job_ms                a job expires after this
    holdback_ms           holdback of a settled segment's pay; ends early when its job closes
    challenge_ms          a challenge without an answer expires after this
    appeal_ms             a slash is held this long before it is paid out
    unbonding_ms          time from unbonding to withdrawal
    evidence_ms           time after a job's end in which fraud in it can be punished
    proposal_ms           a treasury proposal expires after this
    reporter_ppm          reporter's share of a slash after refunds
    jackpot_ppm           jackpot's share of a slash after refunds; the rest is burnt
    """

    reserve_micro: int
    challenge_bond_micro: int
    job_ms: int
    holdback_ms: int
    challenge_ms: int
    appeal_ms: int
    unbonding_ms: int
    evidence_ms: int
    proposal_ms: int
    reporter_ppm: int
    jackpot_ppm: int


def problem(parameters: Parameters) -> str:
    """Why these settings are unsafe; empty if they are safe."""
    one = parameters
    times_ms = (
        *(one.job_ms, one.holdback_ms, one.challenge_ms, one.appeal_ms),
        *(one.unbonding_ms, one.evidence_ms, one.proposal_ms),
    )
    if not all(
        0 <= amount <= MAX_MICRO for amount in (one.reserve_micro, one.challenge_bond_micro)
    ):
        return "amounts lie between 0 and 10^18"
    if not all(0 <= time_ms <= MAX_MS for time_ms in times_ms):
        return "times lie between 0 and ten years"
    if one.job_ms == 0 or one.proposal_ms == 0:
        return "jobs and proposals need some time"
    if one.reporter_ppm < 0 or one.jackpot_ppm < 0 or one.reporter_ppm + one.jackpot_ppm > PPM:
        return "the shares of a slash are not negative and make up one million at most"
    if one.unbonding_ms <= one.job_ms + one.holdback_ms + one.challenge_ms:
        return "unbonding must last longer than job, holdback and challenge together"
    if one.evidence_ms < one.unbonding_ms:
        return "evidence must be valid for as long as unbonding lasts"
    return ""
