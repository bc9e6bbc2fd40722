"""Account names and the double-entry balances.

    external                          credits outside the network; the only account below zero
    available/{party}                 free to spend or withdraw
    stake/free/{party}                bonded; backs no job
    stake/reserved/{operator}/{job}   bonded; backs this job only
    stake/unbonding/{party}           being withdrawn; a slash can still take it
    escrow/{job}                      a job's budget
    holdback/{job}/{operator}         earned, not released yet
    slashed/{job}/{operator}          taken for proven fraud, not paid out yet
    challenge/bond/{challenge}        the challenger's bond
    jackpot                           rewards for found planted errors
    treasury                          the network's own credits
    burn                              destroyed

Every posting debits one account and credits another by the same amount, so all balances always sum
to zero.
"""

from collections.abc import Iterator

EXTERNAL = "external"
JACKPOT = "jackpot"
TREASURY = "treasury"
BURN = "burn"


def available(party: str) -> str:
    return f"available/{party}"


def free_stake(party: str) -> str:
    return f"stake/free/{party}"


def reserved_stake(operator: str, job: str) -> str:
    return f"stake/reserved/{operator}/{job}"


def unbonding_stake(party: str) -> str:
    return f"stake/unbonding/{party}"


def escrow(job: str) -> str:
    return f"escrow/{job}"


def holdback(job: str, operator: str) -> str:
    return f"holdback/{job}/{operator}"


def slashed(job: str, operator: str) -> str:
    return f"slashed/{job}/{operator}"


def challenge_bond(challenge: str) -> str:
    return f"challenge/bond/{challenge}"


class Overdrawn(RuntimeError):
    """An event would take an account below zero. This is a bug in `decide`."""


class Balances:
    """Micro-credits by account. An account exists from its first posting."""

    def __init__(self) -> None:
        self._micro: dict[str, int] = {}

    def __getitem__(self, account: str) -> int:
        return self._micro.get(account, 0)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(sorted(self._micro.items()))

    def move(self, *, debit: str, credit: str, amount_micro: int) -> None:
        """Move `amount_micro` from `debit` to `credit`. Raises `Overdrawn` and changes nothing."""
        left_micro = self[debit] - amount_micro
        if amount_micro < 0 or (left_micro < 0 and debit != EXTERNAL):
            raise Overdrawn(f"{debit} holds {self[debit]}, asked for {amount_micro}")
        self._micro[debit] = left_micro
        self._micro[credit] = self[credit] + amount_micro

    def total_micro(self) -> int:
        """Sum of all balances; zero in every valid book."""
        return sum(self._micro.values())
