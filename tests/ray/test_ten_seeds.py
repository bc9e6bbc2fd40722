"""A lazy operator is slashed in each of ten seeds, and an honest operator in none.

One cluster serves all seeds. The cheat of each seed is a new operator on a new node.
"""

import pytest

from gensyn_ray.api.job import JobResult
from gensyn_ray.api.network import Network
from gensyn_ray.api.terms import Budget
from gensyn_ray.cli.small_sweep import AUDIT, digits_space, tpe_with_asha
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import LocalNetwork, wait_for
from verifier_actors.core.draw import detection_probability
from workloads.numerics.profiles import best_profiles
from workloads.programs.digits import Digits

SEEDS = range(1, 11)
TRIALS = 14
TRIALS_WITHOUT_CHEAT = 8
STAKE_MICRO = 100 * MICRO_PER_CREDIT


def _sweep(client: Network, seed: int, trials: int) -> JobResult:
    budget = Budget(total_micro=500 * MICRO_PER_CREDIT, per_segment_micro=MICRO_PER_CREDIT)
    job = client.sweep(
        Digits,
        param_space=digits_space(),
        tune_config=tpe_with_asha(seed, trials, 3),
        budget=budget,
        audit=AUDIT,
        seed=seed,
    )
    result = job.result(timeout_s=900)
    assert result.summary.state == "done", f"seed {seed}"
    assert result.outcome.trials == trials, f"seed {seed}"
    return result


@pytest.mark.proof
def test_the_cheat_is_slashed_in_all_seeds_and_no_honest_operator_in_any() -> None:
    best, next_best = best_profiles()
    with LocalNetwork(seed=101) as network:
        network.start([best, next_best])
        network.add_volunteer("volunteer-1", best, stake_micro=STAKE_MICRO)
        network.add_volunteer("volunteer-3", next_best, stake_micro=STAKE_MICRO)
        client = Network(network.key("submitter"))
        client.join("submitter")
        network.fund(client.party, 20_000 * MICRO_PER_CREDIT)
        for seed in SEEDS:
            _one_cheat(network, client, next_best, seed)
        network.add_volunteer("volunteer-2", next_best, stake_micro=STAKE_MICRO)
        for seed in SEEDS:
            segments = _sweep(client, seed, TRIALS_WITHOUT_CHEAT).bill.segments
            print(f"seed {seed}, no cheat: {segments}")
            assert segments["rejected"] == segments["void"] == 0, f"seed {seed}"
            assert segments["inconclusive"] == segments["unavailable"] == 0, f"seed {seed}"
        slashed = {one["name"]: one["slashed_micro"] for one in network.ledger.read("operators")}
        assert all(bool(micro) == name.startswith("cheat") for name, micro in slashed.items())


def _one_cheat(network: LocalNetwork, client: Network, profile: str, seed: int) -> None:
    name = f"cheat-{seed}"
    network.add_volunteer(name, profile, stake_micro=STAKE_MICRO, adversary="lazy")
    result = _sweep(client, seed, TRIALS)
    by_name = {one["name"]: one for one in network.ledger.read("operators", job=result.bill.id)}
    cheat = by_name.pop(name)
    print(f"seed {seed}: {cheat['committed']} bad segments, {result.bill.segments}")
    assert cheat["committed"] >= 12, f"seed {seed}"
    assert detection_probability(cheat["committed"], AUDIT.rate_ppm) >= 0.99, f"seed {seed}"
    assert cheat["state"] == "tombstoned", f"seed {seed}"
    assert cheat["slashed_micro"] > 0, f"seed {seed}"
    assert cheat["paid"] == cheat["earned_micro"] == 0, f"seed {seed}"
    honest = [by_name["volunteer-1"], by_name["volunteer-3"]]
    assert all(one["slashed_micro"] == 0 for one in honest), f"seed {seed}"
    wait_for(lambda: not network.is_alive(name), timeout_s=60, what="the cheat's node's end")
