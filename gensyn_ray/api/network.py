"""What a data scientist imports.

    network = gensyn_ray.connect("ray://head:10001")
    job = network.sweep(MyProgram, param_space={...}, tune_config=tune.TuneConfig(...),
                        budget=Budget(total_micro=..., per_segment_micro=...))
    result = job.result()          # .grid is a tune.ResultGrid; .bill and .receipts say the rest

The job runs on the head and outlives this process: `network.job(job.id)` finds it again.
"""

import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from ray import tune

from gensyn_ray.cluster import connection, placement
from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError, Refused, UsageError
from gensyn_ray.domain.numerics import REPRODUCIBLE
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.jobs.driver import SECRET_LINKS
from gensyn_ray.jobs.gateway import GATEWAY_NAME, REQUEST_BYTES, STOPPABLE
from gensyn_ray.jobs.gateway_client import TRANSFER_S, GatewayObjects, ask, grid_of
from gensyn_ray.jobs.names import result_name
from gensyn_ray.jobs.quoting import point_of, pool_of, rounds_work, search_work
from gensyn_ray.jobs.request import JobRequest, Search, Together
from gensyn_ray.object_store.blobs import Blobs, Missing
from gensyn_ray.runtime.wall_clock import now_ms
from ledger.actor import RELAY_NAME
from ledger.client import Signer, check_receipt
from ledger.core.commands import CloseJob, Command, Join, OpenJob
from ledger.core.refusals import Reason
from verifier_actors.core import beacon
from verifier_actors.core.draw import PPM
from workloads.core.bundle import bundle_of
from workloads.core.data_cache import DataCache
from workloads.core.program import Program
from workloads.core.program_errors import told_to_its_author
from workloads.core.quote import Quote, quote
from workloads.core.segment import Runner, TaskSpec
from workloads.core.state import state_digest
from workloads.numerics import self_test
from workloads.numerics.arithmetic import MODES, arithmetic
from workloads.ray_jobs.diloco.core.rounds import Plan
from workloads.ray_jobs.search.tune.trainable import LEAF

DEFAULT_KEY_FILE = Path("~/.gensyn-ray/submitter.key")
WORKING = ("PENDING", "RUNNING")
"""Ray's words for a driver that has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that a job may cost, and what a segment pays, in micro-credits."""

    total_micro: int
    per_segment_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """`rate_ppm`: chance of each segment to be replayed, in millionths. `draw_batch`: how many
    commitments of one operator share a draw; larger batches cost fewer links and answer later."""

    rate_ppm: int = 200_000
    draw_batch: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What any job may ask for. `data`: digest of a prepared data set, empty where the program
    brings its own. `numerics`: `reproducible/v1/highest` and `/high` (faster products, 13 bits)
    give the same bits on every machine; `pinned` is stock PyTorch, the same on machines of one
    kind. `seed`: with it the same configs give the same models. `secret_seed`: 32 bytes that fix
    the job's id and the submitter's part of the draws, for runs that are to be repeated."""

    data: str = ""
    audit: Audit = field(default_factory=Audit)
    numerics: str = REPRODUCIBLE
    seed: int = 0
    secret_seed: bytes | None = field(default=None, repr=False)

    def check(self) -> None:
        """Raises `UsageError`."""
        if not 0 <= self.audit.rate_ppm <= PPM:
            raise UsageError("an audit rate is between 0 and 1,000,000 millionths")
        if self.numerics not in MODES:
            raise UsageError(f"unknown numerics {self.numerics!r}: choose from {', '.join(MODES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """`summary`: what the driver says of the end, the rounds of a pretraining for one. `bill`: the
    job's books. `receipts`: one per judged segment. `search`: Tune's own result, if Tune ran it."""

    summary: dict[str, Any]
    search: tune.ResultGrid | None
    bill: dict[str, Any]
    receipts: list[dict[str, Any]] = field(repr=False)

    @property
    def grid(self) -> tune.ResultGrid:
        """Tune's own result. Raises `UsageError` if the job was not one of Tune's."""
        if self.search is None:
            raise UsageError("Tune left no result of this job: how it ended is in `summary`")
        return self.search

    @property
    def state(self) -> str:
        """Digest of the trained state: of the search's best trial, or of the last round.

        Raises `OperationError` if the job ended before there was one."""
        if self.search is None:
            if not self.summary.get("rounds"):
                raise OperationError(f"the job ended without a state: {self.summary['state']}")
            return self.summary["rounds"][-1]["state"]
        best = self.grid.get_best_result()
        return json.loads((best.metrics or {})[LEAF])["state_after"]


class Job:
    """A job on the network. Reading it never disturbs it."""

    def __init__(self, network: "Network", job: str) -> None:
        self._network = network
        self.id = job

    def status(self) -> dict[str, Any]:
        """The authority's reading of the job: segments, rulings, money."""
        return self._network.read("job", job=self.id)

    def is_done(self) -> bool:
        """Whether the driver has ended. Raises `OperationError` if it failed, with the program's
        own traceback if that was why."""
        status, log = self._network.driver_status(self.id)
        if status == "FAILED":
            raise OperationError(f"job {self.id} failed: {self._why(log)}")
        return status in ("SUCCEEDED", "STOPPED")

    def _why(self, log: str) -> str:
        try:
            return self._summary()["error"]
        except Missing:
            last = [line for line in log.splitlines() if line.strip()][-1:]
            return f"{last[0] if last else 'no log'} (whole log: `ray job logs {self.id}`)"

    def _summary(self) -> dict[str, Any]:
        return canonical.decode(self._network.store.get_file(result_name(self.id)))

    def result(self, *, timeout_s: float | None = None) -> JobResult:
        """Wait for the end. Raises `OperationError` if the job failed, `TimeoutError`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.is_done():
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is still running after {timeout_s} s")
            time.sleep(0.5)
        try:
            summary = self._summary()
        except Missing:
            raise OperationError(f"job {self.id} was stopped before it had a result") from None
        return JobResult(
            summary=summary,
            search=self._network.grid(self.id, summary) if "metric" in summary else None,
            bill=self.status(),
            receipts=self._network.read("receipts", job=self.id),
        )

    def cancel(self, *, timeout_s: float = 300.0) -> bool:
        """End the job: the driver stops, what is committed is judged and paid, the rest of the
        budget returns. Needs the submitter's key, from wherever.

        Returns when the job is closed: True, or False if it was over before. A segment that a
        volunteer has begun and not committed is not paid. Raises `Refused` to any other key, and
        `TimeoutError` if judgements are still missing; the job goes on ending then.
        """
        deadline = time.monotonic() + timeout_s
        asked, closed = False, False
        while not (closed and self._network.driver_status(self.id)[0] not in WORKING):
            try:
                closed = closed or self._network.close_job(self.id)
            except Refused as refusal:
                if refusal.reason != Reason.JOB_CLOSED:
                    raise
                if not asked:
                    return False
                closed = True
            asked = True
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is still ending after {timeout_s} s")
            time.sleep(0.5)
        return True


class Network:
    """A connection to a network, as one submitter. `network_key`: hex that its key must be."""

    def __init__(self, key: SigningKey, *, network_key: str = "") -> None:
        self._relay = placement.control_actor(RELAY_NAME)
        self._desk = placement.control_actor(GATEWAY_NAME)
        self.facts: dict[str, str] = ask(self._relay.facts.remote())
        if network_key and self.facts.get("network_key") != network_key:
            raise OperationError("this is another network, or an impostor: its key is not yours")
        self._signer = Signer(
            key,
            role="submitter",
            network=self.facts["network"],
            genesis=self.facts["genesis"],
            clock=now_ms,
        )

    @property
    def party(self) -> str:
        """The submitter's id: where credits are sent to."""
        return self._signer.party

    def read(self, view: str, **parameters: str) -> Any:
        """A reading of the authority. Raises `Refused`."""
        return ask(self._relay.read.remote(view, parameters))

    def submit(self, command: Command) -> dict[str, Any]:
        """Sign a command as the submitter and send it; the receipt's body.

        Raises `Refused`, and `OperationError` if the answer is not the network's: the relay is an
        actor that any member of the cluster can replace.
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
                f"no receipt of the network came back ({error}): the relay cannot be trusted; "
                "connect again, or send to the ledger's own address"
            ) from None
        self._signer.saw(body["head"])
        return body

    def driver_status(self, job: str) -> tuple[str, str]:
        """(Ray's status of a job's driver, the end of its log if it failed)."""
        return ask(self._desk.status.remote(job))

    def close_job(self, job: str) -> bool:
        """Sign and send `CloseJob`: whether the job is closed now, or its driver told to end.

        Raises `Refused` for a job that is closed or another's."""
        envelope = self._signer.sign(CloseJob(job=job))
        try:
            self._checked(envelope, ask(self._desk.close_job.remote(envelope.to_json())))
        except Refused as refusal:
            if refusal.reason not in STOPPABLE:
                raise
            return False
        return True

    def grid(self, job: str, summary: dict[str, Any]) -> tune.ResultGrid | None:
        """Tune's own result of a search; nothing where it ended before there was one."""
        files = ask(self._desk.run_files.remote(job), timeout_s=TRANSFER_S)
        return grid_of(files, job, summary["metric"], summary["mode"]) if files else None

    @property
    def store(self) -> Blobs:
        """The network's object store, through its head: clients need no access of their own."""
        return Blobs(GatewayObjects(self._desk))

    def state(self, digest: str) -> dict[str, torch.Tensor]:
        """A state that the network stores: `network.state(result.state)`. Raises `Missing`."""
        return self.store.get_state(digest)

    def join(self, name: str) -> None:
        """Make the submitter's key known, once."""
        if not self.read("balance", party=self.party)["joined"]:
            self.submit(Join(name=name))

    def job(self, job: str) -> Job:
        """Attach to a job again. Raises `Refused` if the network knows none of that id."""
        found = Job(self, job)
        found.status()
        return found

    def sweep(
        self,
        program: type[Program],
        *,
        param_space: dict[str, Any],
        tune_config: tune.TuneConfig,
        budget: Budget,
        **terms: Any,
    ) -> Job:
        """A hyperparameter search under Ray Tune: each trial is a run of the program.

        `tune_config` is Tune's own, with any searcher and scheduler; its `metric` and `mode` are
        needed. `terms`: what `Terms` names. Raises as `open` does.
        """
        work = Search(param_space=param_space, tune_config=tune_config)
        return self.open("sweep", program, work, budget, Terms(**terms))

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
        """One run of a program, on one volunteer after the other: what a sweep does for a space of
        one point. `metric` and `mode` say which of its metrics a person wants to see."""
        point = tune.TuneConfig(metric=metric, mode=mode, num_samples=1)
        work = Search(param_space=config, tune_config=point)
        return self.open("finetune", program, work, budget, Terms(**terms))

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
        """One model trained, from nothing or from a base in its data, by `workers` = (least, most)
        volunteers at once, loosely coupled, under Ray Train. `plan`: how many rounds of how many
        steps. Raises as `open` does."""
        work = Together(config=config, plan=plan, workers=workers)
        return self.open("pretrain", program, work, budget, Terms(**terms))

    def quote(
        self, program: type[Program], work: Search | Together, budget: Budget, terms: Terms
    ) -> Quote:
        """What a job would cost, and when it might be done on the nodes that are there; opens none.

        Takes some seconds: the program runs a few steps here, after the self-test, whose speed
        compares this machine with theirs. Raises `ProgramFailed` for what the program raises, and
        `OperationError` without nodes or if this machine fails the self-test.
        """
        terms.check()
        work.check()
        nodes = ask(self._desk.nodes.remote())
        is_search = isinstance(work, Search)
        pool = pool_of(nodes, together=not is_search)
        here = self_test.run()
        if here.failures:
            raise OperationError(f"this machine cannot be compared: {here.failures[0]}")
        bundle = bundle_of(program)
        spec = TaskSpec(
            bundle=bundle.digest,
            config=point_of(work.param_space) if is_search else work.config,
            seed=terms.seed,
            task="quote",
            numerics=terms.numerics,
            data=terms.data,
        )
        with told_to_its_author(program.load_data.__code__.co_filename):
            mine = program()
            runner = Runner(mine, spec, DataCache().get(spec, mine, self.store)[0], arithmetic)
            speed = here.steps_per_second
            planned = (
                search_work(work, runner, steps=program.steps_per_segment, own_speed=speed)
                if is_search
                else rounds_work(work, runner, nodes=len(pool.speeds), own_speed=speed)
            )
        return quote(planned, pool, budget.per_segment_micro)

    def open(
        self,
        kind: str,
        program: type[Program],
        work: Search | Together,
        budget: Budget,
        terms: Terms,
    ) -> Job:
        """Open a job and start its driver on the head. The ways above come down to this one.

        Raises `UsageError` for a program that cannot travel, unknown numerics, a `tune_config`
        without metric and mode, or workers that are none; `ProgramFailed` if its data cannot be
        loaded here, `Missing` if the network has no such prepared data, and `Refused` if the
        authority does not open the job (no budget, for one).
        """
        terms.check()
        work.check()
        bundle = bundle_of(program)
        if terms.data:
            self.store.get_manifest(terms.data)
        self.store.put_bundle(bundle)
        with told_to_its_author(program.load_data.__code__.co_filename):
            data_digest = terms.data or state_digest(program().load_data())
        seeds = terms.secret_seed or secrets.token_bytes(32)
        driver_seed = canonical_seed(seeds, "driver")
        job = f"{kind}-{canonical_seed(seeds, 'id').hex()[:10]}"
        request = JobRequest(
            job=job,
            facts=self.facts,
            bundle=bundle.digest,
            data=terms.data,
            numerics=terms.numerics,
            seed=terms.seed,
            driver_seed=driver_seed,
            secret_seed=canonical_seed(seeds, "draws"),
            packed=cloudpickle.dumps(work),
        )
        packed = cloudpickle.dumps(request)
        if len(packed) > REQUEST_BYTES:
            raise UsageError(
                f"search space and tune_config take {len(packed):,} bytes, the limit is "
                f"{REQUEST_BYTES:,}: refer to data by a digest instead of carrying them along"
            )
        envelope = self._signer.sign(
            OpenJob(
                job=job,
                kind=kind,
                bundle=bundle.digest,
                data_digest=data_digest,
                budget_micro=budget.total_micro,
                price_micro=budget.per_segment_micro,
                audit_ppm=terms.audit.rate_ppm,
                draw_batch=terms.audit.draw_batch,
                secret_anchor=beacon.anchor_of(request.secret_seed, SECRET_LINKS).hex(),
                driver_key=SigningKey(driver_seed).public.hex(),
                numerics=terms.numerics,
            )
        )
        answer = ask(self._desk.open_job.remote(envelope.to_json(), packed))
        self._checked(envelope, answer)
        return Job(self, job)


def connect(
    address: str = "auto", *, key_file: Path | None = None, network_key: str = ""
) -> Network:
    """Connect to a network through its Ray cluster.

    `key_file` holds the submitter's key as hex and is created if it is missing. `network_key` pins
    the network: its public key, as hex; without it the cluster is believed.
    Raises `Unreachable` if no cluster answers or the token is wrong.
    """
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
