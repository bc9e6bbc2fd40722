"""An authority that must answer every signed body."""

from typing import Any

from gensyn_ray.domain import signing
from gensyn_ray.domain.clock import ManualClock
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.services.authority import Authority
from gensyn_ray.services.home import Config, Secrets, default_parameters
from ledger.client import Signer
from ledger.core.commands import Command, Deposit, Join, OpenJob
from ledger.storage.journal import MemoryJournal

KEYS = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate("dst", start=1)}

ROLES = {"d": "driver", "s": "submitter", "t": "treasury"}


class Network:
    """An authority with one funded submitter and one open job, named 5."""

    def __init__(self) -> None:
        self.clock = ManualClock(now_ms=1_000)
        self.authority = Authority(
            config=Config(
                network="n",
                treasury_keys=[KEYS["t"].public.hex()],
                treasury_threshold=1,
                vetted=[],
                parameters=default_parameters(1),
            ),
            secrets=Secrets(network_seed="aa" * 32, beacon_seed="bb" * 32),
            store=MemoryJournal(),
            clock=self.clock,
        )
        self.send("s", Join(name="s"))
        self.send("t", Deposit(party=KEYS["s"].party, amount_micro=1_000))

    def send(self, who: str, command: Command) -> dict[str, Any]:
        signer = Signer(
            KEYS[who],
            role=ROLES[who],
            network="n",
            genesis=self.authority.genesis,
            clock=self.clock,
        )
        return self.authority.submit([signer.sign(command)])[0]

    def send_raw(self, who: str, operation: str, arguments: Any) -> dict[str, Any]:
        """Sign and send arguments. They may be no valid command."""
        body = {
            "network": "n",
            "genesis": self.authority.genesis,
            "role": ROLES[who],
            "operation": operation,
            "arguments": arguments,
            "nonce": f"raw {len(self.authority.journal.tree)}",
            "expiry_ms": self.clock() + 1_000,
            "head": "",
        }
        return self.authority.submit([signing.seal(KEYS[who], signing.COMMAND, body)])[0]

    def open_job(self, **changes: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "job": "5",
            "kind": "sweep",
            "bundle": "b",
            "data_digest": "d",
            "budget_micro": 100,
            "price_micro": 1,
            "audit_ppm": 0,
            "draw_batch": 1,
            "secret_anchor": "cc" * 32,
            "driver_key": KEYS["d"].public.hex(),
        }
        return self.send("s", OpenJob(**{**fields, **changes}))
