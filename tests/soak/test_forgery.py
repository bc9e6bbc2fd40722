"""Random forgeries: the authority accepts none, survives all, and gives documented refusals."""

from collections import Counter

import pytest

from gensyn_ray.domain.signing import Envelope
from ledger.core import invariants
from ledger.core.commands import Bond, Deposit
from tests.kits.amounts import soak_or_proof
from tests.kits.authority_kit import AuthorityKit
from tests.kits.forgeries import Forger, Forgery
from tests.kits.ledger_kit import party_of

BATCH = 64


def attacked_network() -> AuthorityKit:
    """A network with a proposal that waits for a second treasury key."""
    kit = AuthorityKit().begin()
    waits = Deposit(party=party_of("op-a"), amount_micro=5)
    kit.accept("treasury-0", "treasury", waits)
    return kit


def attack(kit: AuthorityKit, forger: Forger, count: int) -> Counter[str]:
    """Submit forgeries in batches; returns the number of each kind."""
    kinds: Counter[str] = Counter()
    for begin in range(0, count, BATCH):
        forgeries = [forger.next() for _ in range(min(BATCH, count - begin))]
        answers = kit.authority.submit([one.envelope for one in forgeries])
        for forgery, answer in zip(forgeries, answers, strict=True):
            check(forgery, answer)
            kinds[forgery.name] += 1
    return kinds


def check(forgery: Forgery, answer: dict[str, object]) -> None:
    expected = [reason.value for reason in forgery.reasons]
    assert answer.get("refused") in expected, (
        f"{forgery.name}: {answer}, expected {expected}: {forgery.envelope}"
    )


def run(seed: int, count: int) -> Counter[str]:
    kit = attacked_network()
    before = (list(kit.store.read()), dict(kit.authority.journal.book.balances))
    kinds = attack(kit, Forger(kit, seed), count)
    assert (list(kit.store.read()), dict(kit.authority.journal.book.balances)) == before
    assert invariants.check(kit.authority.journal.book) == []
    kit.accept("op-a", "operator", Bond(amount_micro=1))
    return kinds


def test_what_a_forger_starts_from_would_be_accepted() -> None:
    kit = attacked_network()
    forger = Forger(kit, 0)
    envelope = forger.forge("honest", forger.body()).envelope
    answer = kit.authority.submit([Envelope(body=envelope.body, signature=envelope.signature)])[0]
    assert "receipt" in answer


def test_no_forgery_is_accepted() -> None:
    kinds = run(seed=1, count=3_000)
    assert len(kinds) == 21


@pytest.mark.parametrize("count", soak_or_proof(soak=20_000, proof=100_000))
def test_no_forgery_of_many_is_accepted(count: int) -> None:
    kinds = run(seed=2, count=count)
    print(dict(kinds))
    assert sum(kinds.values()) == count
    assert min(kinds.values()) > count // 50
