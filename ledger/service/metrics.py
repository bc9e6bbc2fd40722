"""Metrics of the ledger service for Prometheus. Add a metric of the ledger here."""

import time
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gensyn_ray.domain.signing import Envelope
from ledger.service.command_queue import Answer, SubmitBatch


class LedgerMetrics:
    """The metrics of one application, in a registry of its own.

    `queued`: number of waiting commands. `entries`: length of the journal.
    """

    def __init__(self, *, queued: Callable[[], int], entries: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._commands = Counter(
            "gensyn_ledger_commands",
            "Commands by answer: accepted, or refused and why",
            ["answer", "reason"],
            registry=registry,
        )
        self._sizes = Histogram(
            "gensyn_ledger_batch_commands",
            "Commands decided and made durable together",
            buckets=[2**power for power in range(7)],
            registry=registry,
        )
        self._seconds = Histogram(
            "gensyn_ledger_batch_duration_seconds",
            "Time to decide a batch and make it durable",
            buckets=[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5],
            registry=registry,
        )
        waiting = Gauge(
            "gensyn_ledger_queued_commands", "Commands that wait for a batch", registry=registry
        )
        journal = Gauge("gensyn_ledger_entries", "Entries in the journal", registry=registry)
        waiting.set_function(queued)
        journal.set_function(entries)

    def around(self, submit: SubmitBatch) -> SubmitBatch:
        """`submit` with its duration, its batch size and its answers counted."""

        def measured(envelopes: Sequence[Envelope]) -> list[Answer]:
            started_s = time.perf_counter()
            answers = submit(envelopes)
            self._seconds.observe(time.perf_counter() - started_s)
            self._sizes.observe(len(envelopes))
            for answer in answers:
                if "refused" in answer:
                    self.count_refusal(answer["refused"])
                else:
                    self._commands.labels("accepted", "").inc()
            return answers

        return measured

    def count_refusal(self, reason: str) -> None:
        """Count a refused command."""
        self._commands.labels("refused", reason).inc()

    def as_text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)
