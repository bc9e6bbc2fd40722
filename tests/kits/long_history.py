"""A long history of the ledger, for tests of exports."""

import functools

from ledger.core.commands import (
    CloseJob,
    Deposit,
    DistributeSlash,
    OpenChallenge,
    Release,
    ResolveChallenge,
    Unbond,
    Withdraw,
)
from tests.kits.ledger_kit import Kit, kit_with_parties, party_of, slot_of

TWO_YEARS_MS = 2 * 365 * 86_400_000


def long_history() -> Kit:
    """Three jobs over two years: pay, refused pay, a challenge, a slash, refunds, large amounts."""
    kit = kit_with_parties()
    kit.join("op-cheat", "operator", deposit_micro=300, bond_micro=200)
    kit.open_job("job-1", "task-0", "task-1", "task-2")
    kit.earn("op-a", *(slot_of("job-1", "task-0", number) for number in range(5)))
    bad, good = slot_of("job-1", "task-1", 0), slot_of("job-1", "task-1", 1)
    kit.commit("op-b", bad, good)
    kit.settle("job-1", {bad: False, good: True})
    kit.earn("op-cheat", slot_of("job-1", "task-2", 0))
    cheated = slot_of("job-1", "task-2", 1)
    kit.commit("op-cheat", cheated)
    kit.slash("job-1", "op-cheat", cheated, good)
    kit.settle("job-1", {cheated: False})
    challenged = OpenChallenge(challenge="Challenge.1", slot=bad, claim="it was right")
    kit.accept("op-b", "operator", challenged)
    ruling = ResolveChallenge(challenge="Challenge.1", upheld=False, reason="it was not")
    kit.accept("network", "network", ruling)
    kit.accept("submitter", "submitter", CloseJob(job="job-1"))
    kit.clock.advance(TWO_YEARS_MS)
    kit.accept("network", "network", DistributeSlash(operator=party_of("op-cheat")))
    kit.accept("op-a", "operator", Unbond(amount_micro=123))
    kit.accept("op-b", "operator", Withdraw(amount_micro=77))
    for _ in range(3):
        large = Deposit(party=party_of("submitter"), amount_micro=10**18)
        kit.accept("treasury", "treasury", large)
    kit.open_job("Job_2.Z", "z_0", budget_micro=10**18, price_micro=10**17 + 1)
    first = slot_of("Job_2.Z", "z_0", 0)
    kit.earn("op-b", first, slot_of("Job_2.Z", "z_0", 1))
    kit.clock.advance(20_000)
    kit.accept("network", "network", Release(job="Job_2.Z", slots=[first]))
    kit.open_job("job_2.z", "z_0")
    kit.earn("op-a", slot_of("job_2.z", "z_0", 0))
    return kit


@functools.cache
def kit() -> Kit:
    return long_history()
