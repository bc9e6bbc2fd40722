"""Commands that the authority must refuse: forged leaves, foreign keys, wrong roles."""

import random
from dataclasses import replace

from gensyn_ray.domain.evidence import Reveal, Ruling, Verdict
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.testnet.simulator.network import DEPOSIT_MICRO, Network
from gensyn_ray.testnet.simulator.operators import (
    Attempt,
    Operators,
    commitment_of,
    leaf_of,
)
from gensyn_ray.testnet.simulator.training import Result, digest_of
from ledger.core.commands import Bond, CloseJob, Command, Record

Try = tuple[SigningKey, str, Command]


def send_invalid(network: Network, operators: Operators, chance: random.Random) -> None:
    """Each command is refused, and the journal stays as it was."""
    if not operators.committed:
        return
    before = network.read("health")
    slot = Slot.parse(chance.choice(list(operators.committed)))
    operator = chance.choice(operators.all)
    again = Result(state_after=digest_of("again", str(slot)), metrics={"score": 1.0})
    verdict = Verdict(job=slot.job, slot=str(slot), result="00" * 32)
    reveal = Reveal(job=slot.job, batch=f"{slot.job}/batch-0", link="00" * 32)
    ruling = Ruling(
        job=slot.job,
        slot=str(slot),
        outcome="REJECT",
        at_fault=operator.party,
        claimed="",
        verifier="",
        verifier_result="00" * 32,
        referee="",
        referee_result="00" * 32,
    )
    tries: list[Try] = [
        (operator.key, "operator", commitment_of(leaf_of(slot, operator, "", again))),
        (operator.key, "operator", Bond(amount_micro=10 * DEPOSIT_MICRO)),
        (operator.key, "verifier", Record(evidence=verdict)),
        (network.driver, "driver", Record(evidence=verdict)),
        (network.driver, "driver", Record(evidence=reveal)),
        (network.driver, "network", Record(evidence=ruling)),
        (network.treasury, "submitter", CloseJob(job=slot.job)),
    ]
    for attempt in (one for one in operators.attempts if one.ready):
        tries += _forgeries(attempt, network)
        other = chance.choice([one for one in operators.all if one is not attempt.operator])
        tries.append((other.key, "operator", commitment_of(attempt.ready[0])))
    for key, role, command in tries:
        assert network.send(key, role, command) != "", command
    assert network.read("health") == before


def _forgeries(attempt: Attempt, network: Network) -> list[Try]:
    """The attempt's next leaf with one field changed."""
    leaf = attempt.ready[0]
    forged = [
        replace(leaf, state_before="00" * 32),
        replace(leaf, segment=attempt.segment + 1),
        replace(leaf, numerics="c9"),
        replace(leaf, data_digest="00" * 32),
        replace(leaf, operator=network.submitter.party),
    ]
    return [(attempt.operator.key, "operator", commitment_of(one)) for one in forged]
