"""What a network can tune without changing code, and which settings are unsafe together.

Amounts are micro-credits, times milliseconds, shares millionths (ppm) of an amount.
"""

from dataclasses import dataclass

from gensyn_ray.domain.money import MAX_MICRO

PPM = 1_000_000
MAX_MS = 10 * 366 * 86_400_000
"""No time here is longer than ten years, so sums stay far below 2^53 (JSON's exact numbers)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The settings of one network.

    reserve_micro       stake that backs one operator's work in one job
    challenge_bond_micro  what it costs to open a challenge that is dismissed
    job_ms              a job that is still open after this expires
    holdback_ms         how long a settled segment's pay is held back, at most until its job closes
    challenge_ms          how long a challenge waits for its end before the bond returns
    appeal_ms           how long a slash is held before it is given out
    unbonding_ms        from unbonding to withdrawal; longer than anything the stake may answer for
    evidence_ms         how long after its job's end fraud can still be punished
    proposal_ms         how long a treasury proposal waits for approvals
    reporter_ppm        share of what is left of a slash after refunds: for whoever proved the fraud
    jackpot_ppm         the same: for verifiers who find planted errors; what remains is burnt
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
    """Why these settings must not be used; empty if they may be."""
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
