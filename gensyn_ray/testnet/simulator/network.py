"""The simulated network: a real authority on a journal in memory, and one clock."""

import hashlib
from collections.abc import Sequence
from typing import Any

from gensyn_ray.domain.clock import ManualClock
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.services.authority import Authority
from gensyn_ray.services.home import Config, Secrets, default_parameters
from gensyn_ray.testnet.simulator.training import digest_of
from ledger.client import check_receipt
from ledger.core import orders
from ledger.core.commands import Command
from ledger.storage.journal import MemoryJournal

NAME = "sim"
RESERVE_MICRO, PRICE_MICRO, DEPOSIT_MICRO = 50_000, 1_000, 1_000_000
BUNDLE, DATA = "bb" * 32, "dd" * 32
SEGMENTS = 4
"""Segments of every task."""
LINKS = 256
"""Length of each job's hash chain."""
ORDER_MS = 60_000
"""How long a signed command is valid."""


def key_of(name: str) -> SigningKey:
    """The key that a name has in every simulation."""
    return SigningKey(hashlib.sha256(name.encode()).digest())


class Network:
    """Signs commands, sends them to the authority and checks each receipt."""

    def __init__(self, seed: int) -> None:
        self.clock = ManualClock(now_ms=1_000_000)
        self.store = MemoryJournal()
        self.treasury, self.submitter, self.driver = map(key_of, ("bank", "submitter", "driver"))
        self.config = Config(
            network=NAME,
            treasury_keys=[self.treasury.public.hex()],
            treasury_threshold=1,
            vetted=[BUNDLE],
            parameters=default_parameters(RESERVE_MICRO),
        )
        self.secrets = Secrets(
            network_seed=digest_of("network"), beacon_seed=digest_of("beacon", seed)
        )
        self.authority = self.boot()
        self._signed = 0

    def boot(self) -> Authority:
        """A new authority on the same journal."""
        return Authority(
            config=self.config, secrets=self.secrets, store=self.store, clock=self.clock
        )

    def crash(self) -> None:
        """The authority's process dies; another one starts from the journal."""
        before = self.read("health")
        self.authority = self.boot()
        assert self.read("health") == before

    def pass_time(self, by_ms: int) -> None:
        """The clock moves; the authority does what has become due."""
        self.clock.advance(by_ms)
        self.authority.tick()

    # -- commands and readings ---------------------------------------------------------------

    def sign(self, key: SigningKey, role: str, command: Command) -> Envelope:
        """A command as `key` signs it in a role."""
        self._signed += 1
        return orders.write(
            key,
            command,
            network=NAME,
            genesis=self.authority.genesis,
            role=role,
            nonce=f"{self._signed:016x}",
            expiry_ms=self.clock() + ORDER_MS,
        )

    def send_all(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Submit in one batch; per command the reason of its refusal, empty if accepted."""
        answers = self.authority.submit(envelopes)
        for envelope, answer in zip(envelopes, answers, strict=True):
            if "receipt" in answer:
                body = check_receipt(answer["receipt"], self.authority.public_key)
                assert body["command"] == envelope.body_hash
        return [answer.get("refused", "") for answer in answers]

    def send(self, key: SigningKey, role: str, command: Command) -> str:
        """Submit one command; the reason of its refusal, empty if accepted."""
        return self.send_all([self.sign(key, role, command)])[0]

    def must(self, key: SigningKey, role: str, command: Command) -> None:
        """Submit a command that the authority has to accept."""
        refused = self.send(key, role, command)
        assert refused == "", f"{type(command).__name__}: {refused}"

    def read(self, view: str, **parameters: str) -> Any:
        """A reading of the authority."""
        return self.authority.read(view, parameters)
