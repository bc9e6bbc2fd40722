"""A connection to a network.

    network = gensyn_ray.connect("ray://head:10001")
    job = network.sweep(MyProgram, param_space={...}, tune_config=tune.TuneConfig(...),
                        budget=Budget(total_micro=..., per_segment_micro=...))
    result = job.result()          # .grid is a tune.ResultGrid; .bill and .receipts have the money

A job runs on the head and continues when this process ends: `network.job(job.id)` finds it again.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import msgspec

from gensyn_ray.api.dry_run import dry_run
from gensyn_ray.api.job import Job
from gensyn_ray.api.submission import submission_of
from gensyn_ray.api.terms import Budget, JobSpec, Terms
from gensyn_ray.cluster import connection, local_record, placement
from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError, Refused, UsageError
from gensyn_ray.domain.money import format_credits
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.jobs.driver import SECRET_LINKS
from gensyn_ray.jobs.gateway import GATEWAY_NAME, REQUEST_BYTES, STOPPABLE
from gensyn_ray.jobs.gateway_client import TRANSFER_S, GatewayObjects, ask
from gensyn_ray.jobs.request import JobRequest
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.queries import rows
from gensyn_ray.runtime.wall_clock import now_ms
from ledger.actor import RELAY_NAME
from ledger.client import Signer, check_receipt
from ledger.core.commands import CloseJob, Command, Join, OpenJob
from verifier_actors.core import beacon
from workloads.core.program import Program
from workloads.core.quote import Quote, quote
from workloads.ray_jobs.diloco.core.plan import Plan
from workloads.ray_jobs.diloco.kind import DilocoRequest
from workloads.ray_jobs.kind.tables import refuse_unknown
from workloads.ray_jobs.search.kind import SearchRequest

if TYPE_CHECKING:
    import torch
    from ray import tune

DEFAULT_KEY_FILE = Path("~/.gensyn-ray/submitter.key")
ANSWERS: Mapping[str, Any] = {
    "job": rows.JobStatus,
    "tasks": dict[str, rows.TaskRow],
    "operators": list[rows.OperatorRow],
    "receipts": list[rows.SegmentReceipt],
    "balance": rows.Balance,
    "statement": rows.Statement,
    "open_jobs": list[rows.OpenJobRow],
    "bundle": rows.BundleStanding,
}
"""Query -> the records of its answer."""


class Network:
    """A connection to a network, as one submitter.

    `key`: the submitter's. `network_key`: the public key that the network must have, as hex; empty
    accepts any network. Raises `OperationError` if it has another one."""

    def __init__(self, key: SigningKey, *, network_key: str = "") -> None:
        self._relay = placement.control_actor(RELAY_NAME)
        self._gateway = placement.control_actor(GATEWAY_NAME)
        self.facts: dict[str, str] = ask(self._relay.facts.remote())
        if network_key and self.facts.get("network_key") != network_key:
            raise OperationError("this network has another key than `network_key`: do not use it")
        self._signer = Signer(
            key,
            role="submitter",
            network=self.facts["network"],
            genesis=self.facts["genesis"],
            clock=now_ms,
        )

    @property
    def party(self) -> str:
        """The submitter's id, to which credits are sent."""
        return self._signer.party

    def read(self, view: str, **parameters: str) -> Any:
        """The authority's answer to a query: the records of `ANSWERS`, or JSON values for any other
        query of `gensyn_ray.queries`.

        Raises `Refused`, `Unreachable`, and `OperationError` for an answer of another shape: any
        member of the cluster can replace the relay, which is an actor."""
        answer = ask(self._relay.read.remote(view, parameters))
        try:
            return msgspec.convert(answer, ANSWERS.get(view, Any))
        except msgspec.ValidationError as error:
            raise OperationError(
                f"the answer to the query {view} has another shape ({error}): this network has "
                "another version, or its relay is not to be trusted"
            ) from None

    def submit(self, command: Command) -> dict[str, Any]:
        """Sign a command as the submitter and send it. Returns the receipt's body.

        Raises `Refused`, and `OperationError` if the answer has no valid receipt: any member of the
        cluster can replace the relay, which is an actor.
        """
        envelope = self._signer.sign(command)
        return self._checked(envelope, ask(self._relay.submit.remote(envelope.to_json())))

    def _checked(self, envelope: Envelope, answer: dict[str, Any]) -> dict[str, Any]:
        try:
            body = check_receipt(answer["receipt"], bytes.fromhex(self.facts["network_key"]))
            if body["command"] != envelope.body_hash:
                raise ValueError("for another command")
        except (KeyError, TypeError, ValueError) as error:
            raise OperationError(
                f"the answer has no valid receipt of the network ({error}): distrust the relay; "
                "connect again, or send to the ledger's own address"
            ) from None
        self._signer.saw(body["head"])
        return body

    def driver_status(self, job: str) -> tuple[str, str]:
        """(Ray's status of a job's driver, the end of its log if it failed).

        The status is empty if the gateway knows no driver and no summary of the job."""
        return ask(self._gateway.status.remote(job))

    def close_job(self, job: str) -> bool:
        """Sign and send `CloseJob`. True if the job is closed now, False if its driver was told to
        end it.

        Raises `Refused` for a job that is closed, or another submitter's."""
        envelope = self._signer.sign(CloseJob(job=job))
        try:
            self._checked(envelope, ask(self._gateway.close_job.remote(envelope.to_json())))
        except Refused as refusal:
            if refusal.reason not in STOPPABLE:
                raise
            return False
        return True

    def run_files(self, job: str) -> Mapping[str, bytes]:
        """Ray's own files of a job that a client may fetch: path -> content."""
        return ask(self._gateway.run_files.remote(job), timeout_s=TRANSFER_S)

    @property
    def store(self) -> Blobs:
        """The network's object store, through its gateway. Clients need no access of their own."""
        return Blobs(GatewayObjects(self._gateway))

    def state(self, digest: str) -> "dict[str, torch.Tensor]":
        """A state from the object store: `network.state(result.state)`. Raises `Missing`."""
        return self.store.get_state(digest)

    def join(self, name: str) -> None:
        """Register the submitter's key, unless it is registered. Raises `Refused`."""
        if not self.read("balance", party=self.party).joined:
            self.submit(Join(name=name))

    def job(self, job: str) -> Job:
        """The job with this id. Raises `Refused` if the network has none."""
        found = Job(self, job)
        found.status()
        return found

    def sweep(
        self,
        program: type[Program],
        *,
        param_space: dict[str, Any],
        tune_config: "tune.TuneConfig",
        budget: Budget,
        **terms: Any,
    ) -> Job:
        """Open a hyperparameter search under Ray Tune. Each trial is a run of the program.

        `tune_config`: Tune's own, with any searcher and scheduler, a metric and a mode. `terms`:
        fields of `Terms`. Raises as `open` does.
        """
        request = SearchRequest(param_space=param_space, tune_config=tune_config)
        return self._open("sweep", program, request, budget, terms)

    def finetune(
        self,
        program: type[Program],
        *,
        config: dict[str, Any],
        metric: str,
        mode: str,
        budget: Budget,
        **terms: Any,
    ) -> Job:
        """Open a single run of a program: a search over one point.

        `config`: the program's. `metric`, `mode`: what progress displays show. `terms`: fields of
        `Terms`. Raises as `open` does."""
        from ray import tune

        point = tune.TuneConfig(metric=metric, mode=mode, num_samples=1)
        request = SearchRequest(param_space=config, tune_config=point)
        return self._open("finetune", program, request, budget, terms)

    def pretrain(
        self,
        program: type[Program],
        *,
        config: dict[str, Any],
        plan: Plan,
        workers: tuple[int, int],
        budget: Budget,
        **terms: Any,
    ) -> Job:
        """Open a training of one model by several volunteers at once (DiLoCo), under Ray Train.

        `config`: the program's; the model starts from its `init`. `plan`: rounds and steps.
        `workers`: (least, most) number of volunteers at a time. `terms`: fields of `Terms`. Raises
        as `open` does."""
        request = DilocoRequest(config=config, plan=plan, workers=workers)
        return self._open("pretrain", program, request, budget, terms)

    def _open(
        self,
        kind: str,
        program: type[Program],
        request: SearchRequest | DilocoRequest,
        budget: Budget,
        terms: dict[str, Any],
    ) -> Job:
        refuse_unknown(terms, [one.name for one in fields(Terms)], where="argument ")
        return self.open(
            JobSpec(
                kind=kind, program=program, request=request, budget=budget, terms=Terms(**terms)
            )
        )

    def quote(self, spec: JobSpec) -> Quote:
        """Estimate a job's cost and duration on the present nodes. Opens no job.

        Takes some seconds: the self-test and a few steps of the program run here. Raises
        `ProgramFailed` for what the program raises, `UsageError` as `open` does, and
        `OperationError` if the network has no nodes or this machine fails the self-test.
        """
        from gensyn_ray.api.quote import measured, pool_of

        spec.check()
        pool = pool_of(ask(self._gateway.nodes.remote()))
        submission = submission_of(spec)
        timing = measured(submission, spec.request.sample_config(), self.store)
        size, pool = spec.request.estimate(timing, pool)
        return quote(size, pool, spec.budget.per_segment_micro)

    def open(self, spec: JobSpec) -> Job:
        """Open a job and start its driver on the head.

        Registers the submitter's key. Runs a few steps of the program here first, unless
        `terms.dry_run` is false. Raises `UsageError` for a program that cannot travel, does not
        repeat or is taken by no volunteer, for a budget that the submitter lacks, or a spec that
        `JobSpec.check` refuses; `ProgramFailed` for what the program raises here; `Missing` if the
        network lacks the prepared data; `Refused` if the authority does not open the job.
        """
        spec.check()
        submission = submission_of(spec)
        if submission.own is None:
            self.store.get_manifest(spec.terms.data)
        self._check_allowed(spec, submission.bundle.digest)
        self._check_funds(spec.budget)
        if spec.terms.dry_run:
            dry_run(spec, submission, self.store)
        self.store.put_bundle(submission.bundle)
        if submission.own is not None:
            self.store.put_prepared(submission.own)
        seeds = spec.terms.secret_seed or secrets.token_bytes(32)
        request = JobRequest(
            job=f"{spec.kind}-{canonical_seed(seeds, 'id').hex()[:10]}",
            facts=self.facts,
            template=submission.template,
            driver_seed=canonical_seed(seeds, "driver"),
            secret_seed=canonical_seed(seeds, "draws"),
            packed=cloudpickle.dumps(spec.request),
        )
        packed = cloudpickle.dumps(request)
        if len(packed) > REQUEST_BYTES:
            raise UsageError(
                f"the job's request has {len(packed):,} bytes, the limit is {REQUEST_BYTES:,}: "
                "refer to data by a digest instead of sending them in the search space"
            )
        envelope = self._signer.sign(_open_job(spec, request))
        answer = ask(self._gateway.open_job.remote(envelope.to_json(), packed))
        self._checked(envelope, answer)
        return Job(self, request.job)

    def _check_funds(self, budget: Budget) -> None:
        self.join("submitter")
        has_micro = self.read("balance", party=self.party).available_micro
        if has_micro < budget.total_micro:
            raise UsageError(
                f"your key has {format_credits(has_micro)} credits and the job's budget is "
                f"{format_credits(budget.total_micro)}: lower the budget, or have the network's "
                f"treasury send credits to {self.party}"
            )

    def _check_allowed(self, spec: JobSpec, bundle: str) -> None:
        if self.read("bundle", digest=bundle).vetted:
            return
        nodes = ask(self._gateway.nodes.remote())
        present = [node for node in nodes if not node.gone]
        if present and all(node.takes_vetted_only for node in present):
            raise UsageError(
                f"no volunteer takes {spec.program.__name__}: the network has not vetted it, and "
                f"its {len(present)} nodes take vetted programs only. Ask the network's runner to "
                "vet it, or run it on a network of your own (`gensyn-ray up`)"
            )


def _open_job(spec: JobSpec, request: JobRequest) -> OpenJob:
    return OpenJob(
        job=request.job,
        kind=spec.kind,
        bundle=request.template.bundle,
        data_digest=request.template.data,
        budget_micro=spec.budget.total_micro,
        price_micro=spec.budget.per_segment_micro,
        audit_ppm=spec.terms.audit.rate_ppm,
        draw_batch=spec.terms.audit.draw_batch,
        secret_anchor=beacon.anchor_of(request.secret_seed, SECRET_LINKS).hex(),
        driver_key=SigningKey(request.driver_seed).public.hex(),
        numerics=spec.terms.numerics,
    )


def connect(
    address: str = "auto", *, key_file: Path | None = None, network_key: str = ""
) -> Network:
    """Connect to a network through its Ray cluster.

    `address`: HOST:PORT or ray://HOST:PORT of the head. "auto" is the network of `gensyn-ray up` if
    this user runs one, with its token and a key that has credits; else the cluster of this node.
    `key_file`: has the submitter's key as hex; created if it is missing. `network_key`: the
    network's public key, as hex; without it any network is accepted.
    Raises `Unreachable` if no cluster answers or the token is wrong, `UsageError` for a bad key
    file, and `OperationError` if the cluster runs no network or one with another key.
    """
    local = local_record.read() if address == "auto" and not os.environ.get("RAY_ADDRESS") else None
    if local is not None:
        connection.use_token(local.token)
        address, key_file = local.address, key_file or Path(local.key_file)
    connection.attach(address)
    key = _load_key((key_file or DEFAULT_KEY_FILE).expanduser())
    return Network(key, network_key=network_key)


def canonical_seed(seed: bytes, purpose: str) -> bytes:
    """A 32-byte seed for one purpose, derived from another seed."""
    return bytes.fromhex(canonical.digest({"seed": seed.hex(), "purpose": purpose}))


def _load_key(path: Path) -> SigningKey:
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
        return SigningKey(bytes.fromhex(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a key file: {error}") from None
