"""Throughput and latency of the ledger against bare databases.

    python -m benchmarks.ledger_throughput --json [--quick]

    queue        commands a second through the service's queue, 64 callers: signature check,
                 decision, Merkle leaf, signed receipt, group commit under `synchronous=FULL`;
                 baseline: the same updates and line in bare SQLite FULL, one commit each
    http         `queue` through HTTP on the Unix socket, callers in other processes
    settlement   segments a second in settlements of 64; baseline: bare SQLite that changes the
                 same balances, slots and job and writes an equally long line, 64 segments a commit
    postgres     `queue` on PostgreSQL; baseline: pgbench with the same SQL (balances and line), one
                 commit each, 64 clients
    p99          99th percentile of the acknowledgement at half of the queue's rate; baseline: a
                 commit of bare SQLite
    scale        time per command with a million entries in the log; baseline: with a thousand
    start        seconds to start on a million entries with a snapshot; baseline: folding them

The two sides alternate in one run, in small rounds; medians are compared. `ratio` is ours /
baseline. Higher is better, except for `p99`, `scale` and `start`.
"""

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from gensyn_ray.domain import merkle
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.runtime.wall_clock import now_ms
from gensyn_ray.services import authority as authorities
from gensyn_ray.services.authority import Authority
from gensyn_ray.services.home import Config, Secrets, default_parameters
from ledger.client import LedgerClient
from ledger.core import orders
from ledger.core.commands import (
    Bond,
    Command,
    Commit,
    Deposit,
    Join,
    OpenJob,
    RequestSlot,
    Settle,
    SettleItem,
    StartTask,
)
from ledger.service.command_queue import CommandQueue
from ledger.storage.journal import JournalStore, MemoryJournal
from ledger.storage.opening import open_journal

CALLERS = 64
BATCH = 64
ROUNDS = 5
LIFE_MS = 3_600_000
NETWORK_SEED = b"n" * 32


def key_of(name: str) -> SigningKey:
    return SigningKey(NETWORK_SEED if name == "network" else merkle.leaf_hash(name.encode()))


@dataclass(kw_only=True)
class Bench:
    """An authority with 64 funded operators, and commands that are signed in advance."""

    store: JournalStore
    authority: Authority = field(init=False)
    sent: int = 0

    def __post_init__(self) -> None:
        authorities.BEACON_LINKS = 1 << 8
        self.authority = Authority(
            config=Config(
                network="bench",
                treasury_keys=[key_of("treasury").public.hex()],
                treasury_threshold=1,
                vetted=[],
                parameters=default_parameters(0),
            ),
            secrets=Secrets(network_seed=NETWORK_SEED.hex(), beacon_seed="bb" * 32),
            store=self.store,
            clock=now_ms,
        )
        if len(self.authority.journal.tree) > 1:
            return
        for number in range(CALLERS):
            party = key_of(f"op-{number}").party
            name = f"op-{number}"
            self.must(self.sign(name, "operator", Join(name=name, numerics="c")))
            deposit = Deposit(party=party, amount_micro=10**12)
            self.must(self.sign("treasury", "treasury", deposit))
        self.must(self.sign("verifier", "verifier", Join(name="verifier", numerics="c")))

    def sign(self, name: str, role: str, command: Command) -> Envelope:
        self.sent += 1
        return orders.write(
            key_of(name),
            command,
            network="bench",
            genesis=self.authority.genesis,
            role=role,
            nonce=f"{len(self.authority.journal.tree)}-{self.sent}",
            expiry_ms=now_ms() + LIFE_MS,
        )

    def must(self, envelope: Envelope) -> None:
        answer = self.authority.submit([envelope])[0]
        if "receipt" not in answer:
            raise SystemExit(f"the benchmark's own command was refused: {answer}")

    def bonds(self, count: int) -> list[Envelope]:
        """Commands that move one micro-credit each between two accounts."""
        return [
            self.sign(f"op-{number % CALLERS}", "operator", Bond(amount_micro=1))
            for number in range(count)
        ]


# -- our side ------------------------------------------------------------------------------------


async def through_queue(submit: Callable[..., Any], envelopes: list[Envelope]) -> float:
    """Seconds until 64 callers have all answers; each has one command in flight."""
    queue = CommandQueue(submit)
    serving = asyncio.create_task(queue.run())

    async def caller(mine: list[Envelope]) -> None:
        for envelope in mine:
            answer = await queue.put(envelope)
            if "receipt" not in answer:
                raise SystemExit(f"refused: {answer}")

    begun = time.perf_counter()
    await asyncio.gather(*(caller(envelopes[number::CALLERS]) for number in range(CALLERS)))
    took = time.perf_counter() - begun
    serving.cancel()
    return took


def queue_rate(bench: Bench, count: int) -> float:
    """Commands a second."""
    envelopes = bench.bonds(count)
    return count / asyncio.run(through_queue(bench.authority.submit, envelopes))


async def latencies(
    submit: Callable[..., Any], envelopes: list[Envelope], rate: float
) -> list[float]:
    """Seconds from due time to answer, with commands due at a constant rate."""
    queue = CommandQueue(submit)
    serving = asyncio.create_task(queue.run())
    found: list[float] = []

    async def one(envelope: Envelope, at: float) -> None:
        await queue.put(envelope)
        found.append(time.perf_counter() - at)

    begun = time.perf_counter()
    waiting: list[asyncio.Task[None]] = []
    for number, envelope in enumerate(envelopes):
        due = begun + number / rate
        while (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        # Counted from the due time, so that a delayed sender does not hide the wait. Overdue
        # commands are sent together, as readable sockets are read together.
        waiting.append(asyncio.create_task(one(envelope, due)))
    await asyncio.gather(*waiting)
    serving.cancel()
    return found


def settlement_rate(bench: Bench, batches: int) -> float:
    """Settled segments a second, 64 in one command. Only settling is timed."""
    job = f"job-{bench.sent}"
    key = key_of("driver")
    submitter = f"submitter-{bench.sent}"
    bench.must(bench.sign(submitter, "submitter", Join(name=submitter)))
    deposit = Deposit(party=key_of(submitter).party, amount_micro=10**9)
    bench.must(bench.sign("treasury", "treasury", deposit))
    opened = OpenJob(
        job=job,
        kind="bench",
        bundle="b",
        data_digest="d",
        budget_micro=10**9,
        price_micro=1,
        audit_ppm=0,
        draw_batch=10**6,
        secret_anchor="00" * 32,
        driver_key=key.public.hex(),
    )
    bench.must(bench.sign(submitter, "submitter", opened))
    bench.must(
        bench.sign("driver", "driver", StartTask(job=job, task="t", trial="t", spec="s", attempt=0))
    )
    settles = [_committed(bench, job, number * BATCH) for number in range(batches)]
    signed = [bench.sign("network", "network", one) for one in settles]
    begun = time.perf_counter()
    for envelope in signed:
        bench.must(envelope)
    return batches * BATCH / (time.perf_counter() - begun)


def _committed(bench: Bench, job: str, first: int) -> Settle:
    """64 segments with slots and commitments; the settlement that pays them."""
    slots: list[str] = []
    for segment in range(first, first + BATCH):
        request = RequestSlot(job=job, task="t", segment=segment, attempt=0)
        bench.must(bench.sign("op-0", "operator", request))
        leaf = Leaf(
            job=job,
            task="t",
            segment=segment,
            attempt=0,
            state_before="" if segment == 0 else str(segment),
            state_after=str(segment + 1),
            metrics={},
            data_digest="d",
            numerics="c",
            operator=key_of("op-0").party,
        )
        root = merkle.root_of([leaf.encode()]).hex()
        bench.must(bench.sign("op-0", "operator", Commit(root=root, leaves=[leaf])))
        slots.append(f"{job}/t/{segment}/0")
    return Settle(job=job, items=[SettleItem(slot=slot, pay=True, reason="b") for slot in slots])


def http_caller(address: str, envelopes: list[dict[str, str]]) -> int:
    """One process with eight callers, each with its own connection."""
    from concurrent.futures import ThreadPoolExecutor

    def caller(mine: list[dict[str, str]]) -> None:
        client = LedgerClient(address)
        for one in mine:
            client.submit(Envelope.from_json(one))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(caller, [envelopes[number::8] for number in range(8)]))
    return len(envelopes)


def http_rate(folder: Path, count: int) -> float:
    """Commands a second through HTTP on a Unix socket; the service is another process."""
    from gensyn_ray.services.home import prepare

    home = folder / "home"
    config = Config(
        network="bench",
        treasury_keys=[key_of("treasury").public.hex()],
        treasury_threshold=1,
        vetted=[],
        parameters=default_parameters(0),
    )
    prepare(home, config, Secrets(network_seed=NETWORK_SEED.hex(), beacon_seed="bb" * 32))
    # Found and fund the network here, so that the service starts on its journal.
    bench = Bench(store=open_journal(str(home / "journal.sqlite")))
    envelopes = [one.to_json() for one in bench.bonds(count)]
    bench.store.close()
    address = f"unix:{folder}/socket"
    with serving(home, address), ProcessPoolExecutor(2) as pool:
        list(pool.map(http_caller, [address] * 2, [[], []]))
        begun = time.perf_counter()
        list(pool.map(http_caller, [address] * 2, [envelopes[::2], envelopes[1::2]]))
        return count / (time.perf_counter() - begun)


@contextmanager
def serving(home: Path, address: str) -> Iterator[None]:
    """The authority as a child process, ready to answer."""
    import sys

    command = [sys.executable, "-m", "gensyn_ray.services.authority_daemon", str(home), address]
    child = subprocess.Popen(command)
    try:
        client = LedgerClient(address)
        for _ in range(600):
            try:
                client.read("health")
                break
            except Exception:
                time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait()


# -- the other side ------------------------------------------------------------------------------


class Bare:
    """The same balances and lines in bare SQLite FULL, without checks, signatures or proofs."""

    def __init__(self, path: Path, line_bytes: int) -> None:
        self._db = apsw.Connection(str(path))
        self._db.pragma("journal_mode", "wal")
        self._db.pragma("synchronous", "full")
        self._db.execute(
            "CREATE TABLE balance (account TEXT PRIMARY KEY, micro INTEGER);"
            "CREATE TABLE entry (number INTEGER PRIMARY KEY, line BLOB)"
        )
        names = [f"{kind}/{number}" for number in range(CALLERS) for kind in ("free", "available")]
        self._db.executemany("INSERT INTO balance VALUES (?, 1000000000)", [(n,) for n in names])
        self._line = b"x" * line_bytes
        self._number = 0

    def update(self) -> None:
        caller = self._number % CALLERS
        move = "UPDATE balance SET micro = micro + ? WHERE account = ?"
        self._db.execute(move, (-1, f"available/{caller}"))
        self._db.execute(move, (1, f"free/{caller}"))

    def write(self) -> None:
        self._db.execute("INSERT INTO entry VALUES (?, ?)", (self._number, self._line))
        self._number += 1

    def one_by_one(self, count: int) -> float:
        """Commands a second, one commit each."""
        begun = time.perf_counter()
        for _ in range(count):
            with self._db:
                self.update()
                self.write()
        return count / (time.perf_counter() - begun)

    def settle(self, batches: int, line_bytes: int) -> float:
        """Segments a second in settlements of 64: for each segment two balances, the slot's row and
        the job's row, and for each batch one line as long as the ledger's."""
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, promised INT, unsettled INT);"
            "CREATE TABLE IF NOT EXISTS slot"
            " (name TEXT PRIMARY KEY, state TEXT, paid INT, release_ms INT);"
            "INSERT OR REPLACE INTO job VALUES ('job-1', 1000000000, 1000000)"
        )
        first = self._number
        slots = [f"job-1/t/{first + number}/0" for number in range(batches * BATCH)]
        with self._db:
            self._db.executemany(
                "INSERT INTO slot VALUES (?, 'committed', 0, 0)", [(slot,) for slot in slots]
            )
        line = b"x" * line_bytes
        begun = time.perf_counter()
        for batch in range(batches):
            with self._db:
                for slot in slots[batch * BATCH : (batch + 1) * BATCH]:
                    self.update()
                    self._db.execute(
                        "UPDATE slot SET state = 'settled', paid = 1, release_ms = ?"
                        " WHERE name = ?",
                        (1_800_000_000_000, slot),
                    )
                    self._db.execute(
                        "UPDATE job SET promised = promised - ?, unsettled = unsettled - 1"
                        " WHERE name = ?",
                        (1, "job-1"),
                    )
                self._db.execute("INSERT INTO entry VALUES (?, ?)", (self._number, line))
                self._number += 1
        took = time.perf_counter() - begun
        self._number += batches * BATCH  # so that the next call's slots are new ones
        return batches * BATCH / took

    def commit_times(self, count: int) -> list[float]:
        """Seconds of single commits."""
        found: list[float] = []
        for _ in range(count):
            begun = time.perf_counter()
            with self._db:
                self.update()
                self.write()
            found.append(time.perf_counter() - begun)
        return found


PGBENCH = """
\\set caller random(0, 63)
BEGIN;
UPDATE bare_balance SET micro = micro - 1 WHERE account = 'available/' || :caller;
UPDATE bare_balance SET micro = micro + 1 WHERE account = 'free/' || :caller;
INSERT INTO bare_entry (line) VALUES (decode(repeat('78', {bytes}), 'hex'));
END;
"""
PGBENCH_TABLES = """
CREATE TABLE bare_balance (account text PRIMARY KEY, micro bigint);
CREATE TABLE bare_entry (number bigserial PRIMARY KEY, line bytea);
INSERT INTO bare_balance SELECT kind || '/' || n, 1000000000
    FROM generate_series(0, 63) n, (VALUES ('available'), ('free')) k (kind);
"""


def pgbench_rate(conninfo: str, script: Path, seconds: int) -> float:
    """Transactions a second of 64 clients."""
    from tests.kits.postgres import postgres_binaries

    folder = postgres_binaries()
    assert folder is not None
    done = subprocess.run(
        [
            *(str(folder / "pgbench"), "-n", "-c", str(CALLERS), "-j", "2"),
            *("-T", str(seconds), "-f", str(script), conninfo),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(one for one in done.stdout.splitlines() if one.startswith("tps = "))
    return float(line.split()[2])


# -- the cases -----------------------------------------------------------------------------------


def case(name: str, ours: list[float], baseline: list[float], digits: int = 1) -> dict[str, Any]:
    """Medians and the median of the rounds' own ratios."""
    ratios = [mine / other for mine, other in zip(ours, baseline, strict=True)]
    return {
        "case": name,
        "ours": round(statistics.median(ours), digits),
        "baseline": round(statistics.median(baseline), digits),
        "ratio": round(statistics.median(ratios), 3),
    }


def sqlite_cases(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    bench = Bench(store=open_journal(str(folder / "ours.sqlite")))
    line = bench.store.line(bench.store.count() - 1)
    bare = Bare(folder / "bare.sqlite", len(line))
    rounds = [(queue_rate(bench, count), bare.one_by_one(count)) for _ in range(ROUNDS)]
    ours, baseline = [one for one, _ in rounds], [one for _, one in rounds]
    yield case("queue, commands/s", ours, baseline)
    half = statistics.median(ours) / 2
    waits = asyncio.run(latencies(bench.authority.submit, bench.bonds(count), half))
    commits = bare.commit_times(count)
    p99 = [statistics.quantiles(one, n=100)[98] * 1000 for one in (waits, commits)]
    yield case("p99 at half load, ms", p99[:1], p99[1:], digits=3)
    http = http_rate(folder, count)
    yield case("http, commands/s", [http], [statistics.median(baseline)])
    batches = max(4, count // 512)
    settling: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        ours_settled = settlement_rate(bench, batches)
        line_bytes = len(bench.store.line(bench.store.count() - 1))
        settling.append((ours_settled, bare.settle(batches, line_bytes)))
    yield case("settlement of 64, segments/s", [a for a, _ in settling], [b for _, b in settling])


def postgres_case(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    from tests.kits.postgres import postgres_binaries, running_postgres

    if postgres_binaries() is None:
        print("postgres: left out, no PostgreSQL on this machine")
        return
    import psycopg

    with running_postgres() as conninfo:
        bench = Bench(store=open_journal(conninfo))
        line = bench.store.line(bench.store.count() - 1)
        script = folder / "same.sql"
        script.write_text(PGBENCH.format(bytes=len(line)))
        with psycopg.connect(conninfo) as db:
            db.execute(PGBENCH_TABLES.encode())
        rounds = [
            (queue_rate(bench, count), pgbench_rate(conninfo, script, 3)) for _ in range(ROUNDS)
        ]
        bench.store.close()
    yield case("postgres queue, commands/s", [a for a, _ in rounds], [b for _, b in rounds])


def scale_cases(folder: Path, entries: int, count: int) -> Iterator[dict[str, Any]]:
    """A small and a large log in turn; then a start on the large one."""
    store = open_journal(str(folder / "large.sqlite"))
    large, small = Bench(store=store), Bench(store=open_journal(str(folder / "small.sqlite")))
    grow(small, 1_000)
    grow(large, entries)
    gc.collect()
    gc.freeze()
    rounds = [(1e6 / queue_rate(large, count), 1e6 / queue_rate(small, count)) for _ in range(9)]
    name = f"us a command at {entries} entries, against 1000"
    yield case(name, [a for a, _ in rounds], [b for _, b in rounds])
    large.authority.stop()
    lines = MemoryJournal()
    lines.append(0, list(store.read()))
    begun = time.perf_counter()
    Bench(store=store)
    with_snapshot = time.perf_counter() - begun
    begun = time.perf_counter()
    Bench(store=lines)
    folded = time.perf_counter() - begun
    yield case(f"start on {entries} entries, s", [with_snapshot], [folded], digits=2)


def grow(bench: Bench, entries: int) -> None:
    """Fill the log up to a size."""
    while (missing := entries - len(bench.authority.journal.tree)) > 0:
        for envelope_batch in [bench.bonds(min(missing, BATCH))]:
            bench.authority.submit(envelope_batch)


def main() -> None:
    parser = argparse.ArgumentParser(description="The ledger's throughput against bare databases")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="smaller, under a minute")
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the large log")
    options = parser.parse_args()
    count = 1024 if options.quick else 4096
    entries = 10_000 if options.quick else options.entries
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        for found in (
            *sqlite_cases(folder, count),
            *postgres_case(folder, count),
            *scale_cases(folder, entries, count),
        ):
            print("{case}: ours {ours}, baseline {baseline}, ratio {ratio}".format(**found))
            cases.append(found)
    result = {
        "name": "ledger_throughput",
        "ratio": cases[0]["ratio"],
        "better": "higher",
        "unit": "commands/s",
        "cases": cases,
    }
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
