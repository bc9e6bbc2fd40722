"""Operators of the simulation: they request slots, compute, and commit what they claim.

A new adversary is a class with the two members of `Behaviour`. Add an instance to `BEHAVIOURS`: the
simulation draws the behaviours of its operators from there.
"""

import random
from dataclasses import dataclass, field, replace
from typing import Protocol

from gensyn_ray.domain import merkle
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.testnet.simulator.network import DATA, SEGMENTS, Network
from gensyn_ray.testnet.simulator.training import Result, digest_of, train
from ledger.core.commands import Commit, RequestSlot
from ledger.core.refusals import Reason


class Behaviour(Protocol):
    """An operator's claims about segments."""

    @property
    def is_honest(self) -> bool:
        """Whether every claim equals the result of training."""
        ...

    def claim(self, chance: random.Random, slot: Slot, result: Result) -> Result:
        """The claim about `slot`, whose correct result is `result`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabricates:
    """Invents an end state or a metric with probability `rate`; with rate 0 it is honest."""

    rate: float

    @property
    def is_honest(self) -> bool:
        return not self.rate

    def claim(self, chance: random.Random, slot: Slot, result: Result) -> Result:
        if chance.random() >= self.rate:
            return result
        if chance.random() < 0.5:
            return replace(result, state_after=digest_of("made up", str(slot)))
        return replace(result, metrics={"score": 1.0})


HONEST = Fabricates(rate=0.0)
BEHAVIOURS: tuple[Behaviour, ...] = (HONEST, HONEST, Fabricates(rate=0.3), Fabricates(rate=1.0))
"""Each operator but the first draws one of these; the first is honest."""


@dataclass(slots=True, kw_only=True)
class Operator:
    """One operator. `alive`: its node takes part."""

    key: SigningKey
    name: str
    behaviour: Behaviour
    numerics: str
    bonded_micro: int
    alive: bool = True

    @property
    def party(self) -> str:
        return self.key.party


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One attempt at a task. `segment`, `state`: where the node's own computation stands.
    `ready`: leaves that are computed and not committed, at most two."""

    operator: Operator
    job: str
    task: str
    attempt: int
    segment: int
    state: str
    ready: list[Leaf] = field(default_factory=list[Leaf])


class Operators:
    """All operators, their attempts, and which of their commitments are fabricated.

    `fabricated`: slots whose claim differs from the result of training, committed or not.
    `committed`: the operator of each slot whose commitment the authority acknowledged.
    """

    def __init__(self, network: Network, chance: random.Random, all_: list[Operator]) -> None:
        self.all = all_
        self.attempts: list[Attempt] = []
        self.fabricated: set[str] = set()
        self.committed: dict[str, str] = {}
        self._network = network
        self._chance = chance

    def idle(self) -> list[Operator]:
        """Those that can take a task."""
        busy = [attempt.operator.party for attempt in self.attempts]
        return [one for one in self.all if one.alive and one.party not in busy]

    def request(self) -> None:
        """A node requests its next slot and computes the segment."""
        attempts = [one for one in self.attempts if len(one.ready) < 2 and one.segment < SEGMENTS]
        if not attempts:
            return
        attempt = self._chance.choice(attempts)
        operator = attempt.operator
        slot = Slot(
            job=attempt.job,
            task=attempt.task,
            segment=attempt.segment,
            attempt=attempt.attempt,
        )
        refused = self._network.send(operator.key, "operator", RequestSlot.of(slot))
        if refused:
            self._give_up(attempt, refused)
            return
        result = train(attempt.state, attempt.task, attempt.segment)
        claim = operator.behaviour.claim(self._chance, slot, result)
        if claim != result:
            self.fabricated.add(str(slot))
        attempt.ready.append(leaf_of(slot, operator, attempt.state, claim))
        attempt.segment, attempt.state = attempt.segment + 1, claim.state_after

    def commit(self) -> None:
        """A node commits its oldest computed segment."""
        attempts = [one for one in self.attempts if one.ready]
        if not attempts:
            return
        attempt = self._chance.choice(attempts)
        leaf = attempt.ready.pop(0)
        refused = self._network.send(attempt.operator.key, "operator", commitment_of(leaf))
        if refused:
            self._give_up(attempt, refused)
            return
        self.committed[str(leaf.slot)] = attempt.operator.party
        if attempt.segment >= SEGMENTS and not attempt.ready:
            self.attempts.remove(attempt)

    def lose_one(self) -> None:
        """A node leaves the network with what it had not committed; most nodes come back."""
        if self.attempts:
            attempt = self.attempts.pop(self._chance.randrange(len(self.attempts)))
            # The first one stays: the jobs can always be finished.
            is_first = attempt.operator is self.all[0]
            attempt.operator.alive = is_first or self._chance.random() < 0.7

    def _give_up(self, attempt: Attempt, reason: str) -> None:
        """A refused node stops its attempt. Only these reasons may occur."""
        self.attempts.remove(attempt)
        if reason == Reason.OPERATOR_TOMBSTONED:
            attempt.operator.alive = False
        else:
            # A predecessor was judged bad, or the driver finished the task.
            assert reason in (
                Reason.WRONG_PREDECESSOR,
                Reason.TASK_FINISHED,
                Reason.SLOT_NOT_OPEN,
                Reason.INSUFFICIENT_STAKE,
            ), reason


def leaf_of(slot: Slot, operator: Operator, state_before: str, claim: Result) -> Leaf:
    """The operator's statement about one segment."""
    return Leaf(
        job=slot.job,
        task=slot.task,
        segment=slot.segment,
        attempt=slot.attempt,
        state_before=state_before,
        state_after=claim.state_after,
        metrics=claim.metrics,
        data_digest=DATA,
        numerics=operator.numerics,
        operator=operator.party,
    )


def commitment_of(leaf: Leaf) -> Commit:
    """The commitment of one leaf."""
    return Commit(root=merkle.root_of([leaf.encode()]).hex(), leaves=[leaf])
