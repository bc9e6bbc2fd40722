"""Evidence: signed records about audits in the journal. Evidence moves no money.

    record        signed by   content
    Batch         network     commitments that share one draw, fixed before the links are shown
    Reveal        driver      the submitter's link for a batch
    Draw          network     the network's link for a batch, and the segments that they select
    Verdict       verifier    the digest of a replay, by a verifier or a referee
    RefereeCall   network     the referee of a dispute
    Ruling        network     the end of an audit, with its reasons
    FullAudit     driver      tasks whose every segment is audited
    Flush         driver      a request to close all open batches of a job now

The ledger stores these records and checks the signer's role. `verifier_actors.core` defines their
meaning. They are msgspec structs, because msgspec tags members of a union only for structs: each
record has its class name under `"type"`, and an unknown field is refused.
"""

from collections.abc import Mapping

import msgspec


class _Evidence(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of the records: immutable, keyword-only, tagged by class name."""


class Batch(_Evidence, frozen=True, kw_only=True):
    """Commitments of one operator that share one beacon link.

    `batch`: its id, `JOB/batch-N`. `rate_ppm`: probability that a slot is drawn, in millionths.
    """

    job: str
    batch: str
    slots: list[str]
    rate_ppm: int


class Reveal(_Evidence, frozen=True, kw_only=True):
    """The submitter's link for a batch. `link`: the next link of its hash chain, hex."""

    job: str
    batch: str
    link: str


class Assignment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A drawn slot and its verifier."""

    slot: str
    verifier: str


class Draw(_Evidence, frozen=True, kw_only=True):
    """The draw of a batch.

    `index`, `link`: number and hex of the network's beacon link. `secret`: the submitter's link in
    hex, or empty if it was withheld. `drawn`: the slots that the two links select.
    """

    job: str
    batch: str
    index: int
    link: str
    secret: str
    drawn: list[Assignment]


class Verdict(_Evidence, frozen=True, kw_only=True):
    """A replay of a slot. `result`: its result digest (`gensyn_ray.domain.leaf.result_digest`)."""

    job: str
    slot: str
    result: str


class RefereeCall(_Evidence, frozen=True, kw_only=True):
    """Opens a dispute: the verdict differs from the claim, and `referee` replays the slot."""

    job: str
    slot: str
    referee: str


class Ruling(_Evidence, frozen=True, kw_only=True):
    """The end of an audit.

    `outcome`: a value of `verifier_actors.core.outcome.Outcome`. `at_fault`: the operator if the
    claim is rejected, otherwise empty. `claimed`, `verifier_result` and `referee_result` are result
    digests. `referee` and `referee_result` are empty if there was no referee.
    """

    job: str
    slot: str
    outcome: str
    at_fault: str
    claimed: str
    verifier: str
    verifier_result: str
    referee: str
    referee_result: str


class FullAudit(_Evidence, frozen=True, kw_only=True):
    """Every segment of `tasks` is audited. Also flushes: some segments may have no batch yet."""

    job: str
    tasks: list[str]


class Flush(_Evidence, frozen=True, kw_only=True):
    """The job's unbatched commitments are batched now."""

    job: str


Evidence = Batch | Reveal | Draw | Verdict | RefereeCall | Ruling | FullAudit | Flush

SIGNER_ROLES: Mapping[type[Evidence], str] = {
    Batch: "network",
    Draw: "network",
    RefereeCall: "network",
    Ruling: "network",
    Reveal: "driver",
    FullAudit: "driver",
    Flush: "driver",
    Verdict: "verifier",
}
"""The role that gives each kind of evidence."""
