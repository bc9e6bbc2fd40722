"""Account names and the double-entry balances.

    external                          credits outside the network; the only account below zero
    available/{party}                 free to spend or withdraw
    stake/free/{operator}             bonded, backing no job
    stake/reserved/{operator}/{job}   bonded, backing this job alone
    escrow/{job}                      a job's budget
    holdback/{job}/{operator}         earned, not yet released
    slashed/{job}                     taken for proven fraud in this job

Every movement debits one account and credits another by the same amount, so all balances together
are zero at every moment.
"""

from collections.abc import Iterator

EXTERNAL = "external"


def available(party: str) -> str:
    return f"available/{party}"


def free_stake(operator: str) -> str:
    return f"stake/free/{operator}"


def reserved_stake(operator: str, job: str) -> str:
    return f"stake/reserved/{operator}/{job}"


def escrow(job: str) -> str:
    return f"escrow/{job}"


def holdback(job: str, operator: str) -> str:
    return f"holdback/{job}/{operator}"


def slashed(job: str) -> str:
    return f"slashed/{job}"


class Balances:
    """Amounts by account, in micro-credits; an account exists from its first movement."""

    def __init__(self) -> None:
        self._micro: dict[str, int] = {}

    def __getitem__(self, account: str) -> int:
        return self._micro.get(account, 0)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(sorted(self._micro.items()))

    def move(self, *, debit: str, credit: str, amount_micro: int) -> None:
        """Take from `debit`, give to `credit`."""
        self._micro[debit] = self[debit] - amount_micro
        self._micro[credit] = self[credit] + amount_micro

    def total_micro(self) -> int:
        """Zero, always."""
        return sum(self._micro.values())
