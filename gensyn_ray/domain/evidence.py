"""Evidence: what parties put into the journal about audits. It moves no money by itself.

    record        signed by   says
    Batch         network     these commitments share one draw; nothing is known of it yet
    Reveal        driver      the submitter's link for a batch
    Draw          network     the network's link for a batch, and what both links select
    Verdict       verifier    the digest that a replay gave; a referee's, too
    RefereeCall   network     a verdict differs from the claim: this party is to replay, too
    Ruling        network     how an audit ended, with everything that it follows from
    FullAudit     driver      every segment of these tasks is to be audited
    Flush         driver      what waits for a batch goes into one now

The ledger stores these records and checks who may say them; `verifier_actors.core` gives them their
meaning. They are msgspec structs because a union of dataclasses has no tag there: each travels with
its class name under `"type"`, and an unknown field is refused.
"""

import msgspec


class _Evidence(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """What the records share: immutable, named fields, tagged by class."""


class Batch(_Evidence, frozen=True, kw_only=True):
    """Commitments that share one beacon link, closed before that link is shown. `batch`: its id,
    `JOB/batch-N`. `rate_ppm`: chance of each slot to be drawn, in millionths."""

    job: str
    batch: str
    slots: list[str]
    rate_ppm: int


class Reveal(_Evidence, frozen=True, kw_only=True):
    """`link`: hex, the next link of the submitter's hash chain."""

    job: str
    batch: str
    link: str


class Assignment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A drawn slot and the party that is to replay it."""

    slot: str
    verifier: str


class Draw(_Evidence, frozen=True, kw_only=True):
    """`index`, `link`: number and hex of the network's beacon link. `secret`: hex of the
    submitter's link, empty if it was withheld. `drawn`: what the two links select."""

    job: str
    batch: str
    index: int
    link: str
    secret: str
    drawn: list[Assignment]


class Verdict(_Evidence, frozen=True, kw_only=True):
    """`result`: what the replay of a slot gave (`gensyn_ray.domain.leaf.result_digest`)."""

    job: str
    slot: str
    result: str


class RefereeCall(_Evidence, frozen=True, kw_only=True):
    """A dispute begins: `referee` is to replay the slot, whose verdict differs from its claim."""

    slot: str
    referee: str


class Ruling(_Evidence, frozen=True, kw_only=True):
    """`outcome`: the end of the audit (`verifier_actors.core.outcome.Outcome`). `at_fault`: the
    operator, if the claim was refuted. `claimed` and the results are result digests; `referee` and
    `referee_result` are empty where no referee was called."""

    slot: str
    outcome: str
    at_fault: str
    claimed: str
    verifier: str
    verifier_result: str
    referee: str
    referee_result: str


class FullAudit(_Evidence, frozen=True, kw_only=True):
    """Also flushes: the tasks' last segments may still wait for a batch."""

    job: str
    tasks: list[str]


class Flush(_Evidence, frozen=True, kw_only=True):
    """`job`: whose waiting commitments go into batches now, however few they are."""

    job: str


Evidence = Batch | Reveal | Draw | Verdict | RefereeCall | Ruling | FullAudit | Flush
