"""`gensyn-ray demo`: a whole network on this machine, one real sweep, one cheat."""

import io
import json
import re
import secrets
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from gensyn_ray.cli.books import check_file
from gensyn_ray.cli.network import STAKE, VOLUNTEERS, bring_up
from gensyn_ray.cli.submitter import AUDIT_PPM, METRIC, Positive, show_progress
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.evidence import Ruling
from gensyn_ray.domain.money import MICRO_PER_CREDIT, format_credits
from gensyn_ray.domain.numerics import REPRODUCIBLE, pinned_class
from gensyn_ray.domain.records import to_json
from gensyn_ray.queries.rows import SegmentReceipt
from ledger.core.events import Recorded, SlotCommitted
from ledger.core.journal import Entry
from ledger.export.flat import write_flat
from ledger.storage.sqlite import SqliteJournal
from verifier_actors.core.draw import detection_probability
from verifier_actors.core.outcome import Outcome

if TYPE_CHECKING:
    from gensyn_ray.api.job import Job, JobResult
    from gensyn_ray.testnet.local import LocalNetwork

PRICE_MICRO = MICRO_PER_CREDIT
PICTURE_WIDTH = 100
"""Columns of the terminal in the picture."""


def demo(
    *,
    seed: int | None = None,
    adversary: Literal["lazy", "none"] = "lazy",
    report: Path | None = None,
    picture: Path | None = None,
    program: str = "digits",
    trials: Positive = 14,
    budget: Positive = 500,
    stake: int = STAKE,
    port: int = 0,
    numerics: str = REPRODUCIBLE,
    out: Path = Path("runs"),
) -> None:
    """Run one verified sweep on a local network of real Ray nodes.

    Args:
        seed: Fixes keys, draws, the job's data order and the search's sampler.
        adversary: Behaviour of the cheating volunteer: `lazy` skips the training steps.
        report: Also write a JSON report to this file.
        picture: Also draw the result to this SVG file.
        program: The program to search over.
        trials: Number of trials.
        budget: The submitter's budget in credits; a segment costs one.
        stake: Each operator's stake in credits.
        port: Port of the Ray head; 0 takes a free one.
        numerics: `reproducible/v1/highest` or `/high`: the same bits on every machine; `pinned`:
            stock.
        out: Folder for the journal and its checkpoint.
    """
    # Imported here, so that the command's help is shown without delay.
    from gensyn_ray.api.network import Network
    from gensyn_ray.api.terms import Budget
    from gensyn_ray.cli.small_sweep import AUDIT, digits_space, program_called, tpe_with_asha
    from gensyn_ray.testnet.local import LocalNetwork

    chosen = program_called(program)
    seed = secrets.randbelow(2**31) if seed is None else seed
    console = Console()
    with LocalNetwork(seed=seed, port=port) as network:
        started = time.monotonic()
        profiles = bring_up(network, console, adversary=adversary, stake=stake)
        console.print(f"network is up after {time.monotonic() - started:.0f} s, seed {seed}")
        submitter = network.key("submitter")
        client = Network(submitter)
        client.join("submitter")
        network.fund(client.party, budget * MICRO_PER_CREDIT)
        begun = time.monotonic()
        job = client.sweep(
            chosen,
            param_space=digits_space(),
            tune_config=tpe_with_asha(seed, trials, len(VOLUNTEERS)),
            budget=Budget(total_micro=budget * MICRO_PER_CREDIT, per_segment_micro=PRICE_MICRO),
            audit=AUDIT,
            numerics=numerics,
            seed=seed,
            secret_seed=network.secret("job"),
        )
        show_progress(client, job, console)
        result = job.result()
        content = _report(network, job, result, out=out, wall_s=time.monotonic() - begun)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(content, indent=2) + "\n")
    _show(console, content, profiles)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text(svg_of(content, profiles, seed))
    if content["job"]["state"] != "done" or not content["ledger"]["conserved"]:
        raise OperationError(f"the sweep ended as: {content['job']['state']}")


def _report(
    network: "LocalNetwork", job: "Job", result: "JobResult", *, out: Path, wall_s: float
) -> dict[str, Any]:
    facts = network.facts
    folder = out / job.id
    folder.mkdir(parents=True, exist_ok=True)
    flat = folder / "journal"
    head = write_flat(
        SqliteJournal(network.journal, read_only=True).read(),
        network.key("network"),
        facts["network"],
        flat,
    )
    checked = check_file(flat, facts["network_key"], draws=True)
    best = result.grid.get_best_result(METRIC, "max")
    counts = result.bill.segments
    listed = network.ledger.read("operators", job=job.id)
    adversaries = {m.key.party: m.adversary for m in network.members.values()}
    return {
        "job": {
            "id": job.id,
            "kind": "sweep",
            "state": result.summary.state,
            "trials": result.outcome.trials,
            "wall_s": round(wall_s, 1),
            "best": {
                "config": best.config,
                "metric": METRIC,
                "value": (best.metrics or {})[METRIC],
            },
            "winner": _winner((best.metrics or {})["task"], result.receipts),
        },
        "segments": {
            key: getattr(counts, key)
            for key in (
                "committed",
                "audited",
                "accepted",
                "rejected",
                "inconclusive",
                "unavailable",
                "void",
            )
        },
        "operators": [
            {
                **{
                    key: one[key]
                    for key in (
                        "id",
                        "name",
                        "numerics",
                        "earned_micro",
                        "slashed_micro",
                        "stake_micro",
                        "state",
                        "committed",
                    )
                },
                "adversary": adversaries[one["id"]],
            }
            for one in listed
        ],
        "rulings": to_json(result.bill)["rulings"],
        "detection": {
            **_detection(listed, adversaries),
            "latency_s": detection_latency_s(checked.verified.entries),
        },
        "ledger": {
            "journal": str(flat),
            "public_key": facts["network_key"],
            "entries": head.size,
            "conserved": checked.verified.journal.book.balances.total_micro() == 0,
        },
    }


def _winner(task: str, receipts: list[SegmentReceipt]) -> dict[str, Any]:
    """Number of the winner's segments that are not void, and of those with the outcome ACCEPT."""
    mine = [one for one in receipts if one.slot.split("/")[1] == task and not one.void]
    replayed = sum(one.outcome == "ACCEPT" for one in mine)
    return {"task": task, "segments": len(mine), "replayed": replayed}


def _detection(operators: list[dict[str, Any]], adversaries: dict[str, str]) -> dict[str, Any]:
    bad = sum(one["committed"] for one in operators if adversaries[one["id"]] != "none")
    return {
        "bad_segments": bad,
        "rate_ppm": AUDIT_PPM,
        "probability": detection_probability(bad, AUDIT_PPM),
    }


def detection_latency_s(entries: Iterable[Entry]) -> dict[str, float | None]:
    """Seconds from a claim to the ruling that rejects it, by the journal's times: the median and
    the worst of all rejected segments. None if no segment was rejected."""
    claimed_ms: dict[str, int] = {}
    found: list[float] = []
    for entry in entries:
        for event in entry.events:
            match event:
                case SlotCommitted():
                    claimed_ms[event.slot] = entry.time_ms
                case Recorded(evidence=Ruling(outcome=Outcome.REJECT, slot=slot)):
                    found.append((entry.time_ms - claimed_ms[slot]) / 1000)
                case _:
                    pass
    if not found:
        return {"median": None, "worst": None}
    return {"median": round(statistics.median(found), 3), "worst": round(max(found), 3)}


def svg_of(content: dict[str, Any], profiles: dict[str, str], seed: int) -> str:
    """The terminal output of a demo's result as an SVG picture."""
    console = Console(record=True, width=PICTURE_WIDTH, file=io.StringIO())
    console.print(f"$ gensyn-ray demo --seed {seed}", highlight=False)
    # A picture's line cannot be longer than the picture.
    books = {**content["ledger"], "public_key": content["ledger"]["public_key"][:8] + "…"}
    _show(console, {**content, "ledger": books}, profiles)
    svg = console.export_svg(title="gensyn-ray demo")
    # Rich refers to a font on the web. The picture must load no external file.
    return re.sub(r"@font-face \{[^}]*\}\s*", "", svg)


def _show(console: Console, content: dict[str, Any], profiles: dict[str, str]) -> None:
    job, detection = content["job"], content["detection"]
    table = Table("operator", "class", "earned", "slashed", "stake left", "why", title="the bill")
    reasons = {one["at_fault"]: one for one in content["rulings"] if one["at_fault"]}
    for one in content["operators"]:
        ruling = reasons.get(one["id"])
        why = f"paid for {one['earned_micro'] // PRICE_MICRO} of {one['committed']} segments"
        if ruling:
            why = f"{ruling['task']} segment {ruling['segment']}: two replays differ from its claim"
        table.add_row(
            one["name"],
            f"{pinned_class(one['numerics'])} ({profiles[one['name']]})",
            format_credits(one["earned_micro"]),
            format_credits(one["slashed_micro"]),
            format_credits(one["stake_micro"]),
            why,
        )
    console.print(table)
    counts, winner = content["segments"], job["winner"]
    console.print(
        f"{job['state']}: {job['trials']} trials, {counts['committed']} segments committed, "
        f"{counts['audited']} audited ({counts['rejected']} rejected), {job['wall_s']} s"
    )
    value = job["best"]["value"]
    console.print(
        f"winner {winner['task']}: {METRIC} {value:.4f}, {winner['replayed']} of "
        f"{winner['segments']} segments replayed, config {job['best']['config']}"
    )
    if detection["bad_segments"]:
        console.print(
            f"the cheat committed {detection['bad_segments']} bad segments; at a rate of "
            f"{detection['rate_ppm'] / 1e6:g} at least one is drawn with probability "
            f"1 - (1 - q)^k = {detection['probability']:.6f}"
        )
    latency = detection["latency_s"]
    if latency["median"] is not None:
        console.print(
            f"detection took {latency['median']:.1f} s from claim to ruling "
            f"(median; worst {latency['worst']:.1f} s)"
        )
    books = content["ledger"]
    console.print(f"journal: {books['journal']} ({books['entries']} entries); check it offline:")
    console.print(
        f"gensyn-ray ledger verify {books['journal']} --key {books['public_key']} --draws",
        soft_wrap=True,
    )
