"""Tables of the ledger's state machines and postings, and the generated part of its README.

The rules are `decide` and `Book.apply`; nothing executes these tables. A randomized test compares
each transition and each posting with them, in both directions. A second test compares
`ledger/README.md` with them.

    python -m ledger.core.machines      prints the generated part of the README
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ledger.core.commands import ALLOWED_ROLES, Command
from ledger.core.refusals import Reason

NEW = ""
"""The state before the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One state machine. `of`: what it is the state of. `transitions`: (before, event, after)."""

    name: str
    of: str
    transitions: frozenset[tuple[str, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A kind of posting: from one kind of account to another, by these operations."""

    memo: str
    debit: str
    credit: str
    operations: tuple[str, ...]


MACHINES = (
    Machine(
        name="slot",
        of="the right to run one segment once, and its pay",
        transitions=frozenset(
            {
                (NEW, "SlotIssued", "issued"),
                ("issued", "SlotCommitted", "committed"),
                ("issued", "TaskStarted", "dead"),
                ("issued", "TaskFinished", "dead"),
                ("issued", "Tombstoned", "dead"),
                ("issued", "JobClosed", "dead"),
                ("committed", "SlotSettled", "settled"),
                ("settled", "SlotReleased", "released"),
            }
        ),
    ),
    Machine(
        name="job",
        of="a job and its escrow",
        transitions=frozenset(
            {
                (NEW, "JobOpened", "open"),
                ("open", "JobClosed", "closed"),
                ("open", "JobClosed", "expired"),
            }
        ),
    ),
    Machine(
        name="standing",
        of="a party",
        transitions=frozenset(
            {
                (NEW, "PartyJoined", "active"),
                ("active", "Jailed", "jailed"),
                ("jailed", "Jailed", "jailed"),
                ("jailed", "Unjailed", "active"),
                ("active", "Tombstoned", "tombstoned"),
                ("jailed", "Tombstoned", "tombstoned"),
                ("tombstoned", "SlashReversed", "active"),
            }
        ),
    ),
    Machine(
        name="slash",
        of="stake taken for proven fraud",
        transitions=frozenset(
            {
                (NEW, "Tombstoned", "held"),
                ("held", "SlashDistributed", "distributed"),
                ("held", "SlashReversed", "reversed"),
                ("reversed", "Tombstoned", "held"),
            }
        ),
    ),
    Machine(
        name="challenge",
        of="a bonded question about a segment",
        transitions=frozenset(
            {
                (NEW, "ChallengeOpened", "open"),
                ("open", "ChallengeEnded", "upheld"),
                ("open", "ChallengeEnded", "dismissed"),
                ("open", "ChallengeEnded", "expired"),
            }
        ),
    ),
)

FLOWS = (
    Flow(memo="deposit", debit="external", credit="available", operations=("Deposit", "Approve")),
    Flow(memo="grant", debit="treasury", credit="available", operations=("Grant", "Approve")),
    Flow(memo="withdraw", debit="available", credit="external", operations=("Withdraw",)),
    Flow(memo="bond", debit="available", credit="stake/free", operations=("Bond",)),
    Flow(memo="unbond", debit="stake/free", credit="stake/unbonding", operations=("Unbond",)),
    Flow(memo="mature", debit="stake/unbonding", credit="available", operations=("Mature",)),
    Flow(memo="fund", debit="available", credit="escrow", operations=("OpenJob",)),
    Flow(memo="reserve", debit="stake/free", credit="stake/reserved", operations=("RequestSlot",)),
    Flow(memo="earn", debit="escrow", credit="holdback", operations=("Settle",)),
    Flow(
        memo="release",
        debit="holdback",
        credit="available",
        operations=("Release", "CloseJob", "ExpireJob"),
    ),
    Flow(
        memo="release stake",
        debit="stake/reserved",
        credit="stake/free",
        operations=("CloseJob", "ExpireJob"),
    ),
    Flow(memo="refund", debit="escrow", credit="available", operations=("CloseJob", "ExpireJob")),
    Flow(
        memo="forfeit",
        debit="holdback",
        credit="escrow",
        operations=("Slash", "ReportEquivocation", "CloseJob", "ExpireJob"),
    ),
    *(
        Flow(
            memo="slash",
            debit=debit,
            credit="slashed",
            operations=("Slash", "ReportEquivocation"),
        )
        for debit in ("stake/reserved", "stake/free", "stake/unbonding")
    ),
    Flow(memo="make good", debit="slashed", credit="available", operations=("DistributeSlash",)),
    Flow(
        memo="reporter share", debit="slashed", credit="available", operations=("DistributeSlash",)
    ),
    Flow(memo="jackpot share", debit="slashed", credit="jackpot", operations=("DistributeSlash",)),
    Flow(memo="burn", debit="slashed", credit="burn", operations=("DistributeSlash",)),
    *(
        Flow(
            memo="slash reversed",
            debit="slashed",
            credit=credit,
            operations=("ReverseSlash", "Approve"),
        )
        for credit in ("stake/reserved", "stake/free")
    ),
    Flow(
        memo="challenge bond",
        debit="available",
        credit="challenge/bond",
        operations=("OpenChallenge",),
    ),
    Flow(
        memo="bond returned",
        debit="challenge/bond",
        credit="available",
        operations=("ResolveChallenge", "ExpireChallenge"),
    ),
    Flow(
        memo="bond lost",
        debit="challenge/bond",
        credit="treasury",
        operations=("ResolveChallenge",),
    ),
    Flow(memo="jackpot", debit="jackpot", credit="available", operations=("PayJackpot",)),
    *(
        Flow(
            memo="correction",
            debit=debit,
            credit=credit,
            operations=("Correct", "Approve"),
        )
        for debit in ("available", "jackpot", "treasury")
        for credit in ("available", "jackpot", "treasury")
        if debit != credit or debit == "available"
    ),
)


def kind_of(account: str) -> str:
    """The account without its names: `stake/free/{party}` gives `stake/free`."""
    first, *rest = account.split("/")
    return f"{first}/{rest[0]}" if first in ("stake", "challenge") else first


def markdown() -> str:
    """The generated part of the README."""
    return "\n".join([*_machines(), *_flows(), *_operations(), *_reasons()])


def _machines() -> Iterator[str]:
    for machine in MACHINES:
        yield f"### {machine.name}: {machine.of}\n\n```mermaid\nstateDiagram-v2"
        joined: dict[tuple[str, str], list[str]] = {}
        for before, event, after in sorted(machine.transitions):
            joined.setdefault((before, after), []).append(event)
        for (before, after), events in sorted(joined.items()):
            yield f"    {before or '[*]'} --> {after}: {', '.join(events)}"
        yield "```\n"


def _flows() -> Iterator[str]:
    yield "### Postings\n\n| memo | debit | credit | by |\n|---|---|---|---|"
    for flow in FLOWS:
        operations = ", ".join(flow.operations)
        yield f"| {flow.memo} | `{flow.debit}` | `{flow.credit}` | {operations} |"
    yield ""


def _operations() -> Iterator[str]:
    yield "### Operations\n\n| operation | signed by | effect |\n|---|---|---|"
    for kind, roles in ALLOWED_ROLES.items():
        yield f"| `{kind.__name__}` | {', '.join(roles)} | {_effect(kind)} |"
    yield ""


def _effect(kind: type[Command]) -> str:
    """The first sentence of the command's docstring, without its full stop."""
    first_line = (kind.__doc__ or "").partition("\n")[0]
    return first_line.partition(". ")[0].removesuffix(".")


def _reasons() -> Iterator[str]:
    yield "### Refusals, in their order of precedence\n"
    for number, reason in enumerate(Reason, start=1):
        yield f"{number}. {reason.value}"
    yield ""


if __name__ == "__main__":
    print(markdown())
