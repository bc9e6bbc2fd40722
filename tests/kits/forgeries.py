"""Forged envelopes from a seed, each with the allowed reasons of its refusal.

The forger knows all public data: the network's name and genesis, the public keys of all parties and
all accepted commands. It does not know the private keys of others.
"""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gensyn_ray.domain import canonical, signing
from gensyn_ray.domain.money import MAX_MICRO
from gensyn_ray.domain.signing import Envelope, SigningKey
from ledger.core.refusals import Reason
from tests.kits.authority_kit import AuthorityKit
from tests.kits.ledger_kit import key_of, party_of

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Order of the Ed25519 group (RFC 8032). Added to a signature's second half, it malleates it."""

SMALL_ORDER_KEYS = [
    "00" * 32,
    "01" + "00" * 31,
    "ec" + "ff" * 30 + "7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgery:
    """A forged envelope. `reasons`: the allowed reasons of its refusal."""

    name: str
    envelope: Envelope
    reasons: tuple[Reason, ...]


class Forger:
    """Forges commands in a kit's network. `op-a` is an honest operator."""

    def __init__(self, kit: AuthorityKit, seed: int) -> None:
        self._kit = kit
        self._random = random.Random(seed)
        self._count = 0
        self._accepted = [Envelope.from_json(one) for one in _accepted(kit)]

    def next(self) -> Forgery:
        """The next forgery. All forgeries differ."""
        kinds: list[Callable[[], Forgery]] = [
            *(self.wrong_network, self.wrong_genesis, self.wrong_head, self.expired),
            *(self.reused_nonce, self.another_key, self.flipped_bits, self.malleated),
            *(self.another_purpose, self.small_order_key, self.not_ones_role, self.stranger),
            *(self.reencoded, self.cut_off, self.noise, self.unknown_operation, self.wrong_amount),
            *(self.amount_as_something_else, self.wrong_fields, self.replayed_with_a_new_signature),
            *(self.self_approval,),
        ]
        return self._random.choice(kinds)()

    # -- material of forgeries ---------------------------------------------------------------

    def body(self, **changes: Any) -> dict[str, Any]:
        """A command of `op-a` that the network would accept."""
        self._count += 1
        fresh: dict[str, Any] = {
            "network": "testnet",
            "genesis": self._kit.authority.genesis,
            "key": key_of("op-a").public.hex(),
            "role": "operator",
            "operation": "Bond",
            "arguments": {"amount_micro": self._random.randint(1, 9)},
            "nonce": f"forged-{self._count}",
            "expiry_ms": self._kit.clock() + 60_000,
            "head": "",
        }
        return {**fresh, **changes}

    def forge(
        self, name: str, body: dict[str, Any], *reasons: Reason, key: SigningKey | None = None
    ) -> Forgery:
        data = canonical.encode(body)
        return self.raw(name, data, *reasons, key=key)

    def raw(
        self, name: str, data: bytes, *reasons: Reason, key: SigningKey | None = None
    ) -> Forgery:
        signature = (key or key_of("op-a")).sign(signing.COMMAND, data)
        envelope = Envelope(body=data, signature=signature)
        return Forgery(name=name, envelope=envelope, reasons=reasons)

    def text(self) -> str:
        return hashlib.sha256(self._random.randbytes(8)).hexdigest()

    # -- the kinds ---------------------------------------------------------------------------

    def wrong_network(self) -> Forgery:
        return self.forge("network", self.body(network=self.text()[:9]), Reason.WRONG_NETWORK)

    def wrong_genesis(self) -> Forgery:
        return self.forge("genesis", self.body(genesis=self.text()), Reason.WRONG_NETWORK)

    def wrong_head(self) -> Forgery:
        head = f"{self._random.randint(0, 30)}:{self.text()}"
        return self.forge("head", self.body(head=head), Reason.UNKNOWN_HEAD)

    def expired(self) -> Forgery:
        past = self._kit.clock() - self._random.randint(1, 10**6)
        return self.forge("expired", self.body(expiry_ms=past), Reason.EXPIRED)

    def reused_nonce(self) -> Forgery:
        used = [
            content
            for one in self._accepted
            if (content := canonical.decode(one.body))["key"] == key_of("op-a").public.hex()
        ]
        nonce = self._random.choice(used)["nonce"]
        return self.forge("nonce", self.body(nonce=nonce), Reason.NONCE_REUSED)

    def another_key(self) -> Forgery:
        thief = key_of(self._random.choice(["op-b", "submitter", "thief"]))
        return self.forge("signed by another", self.body(), Reason.BAD_SIGNATURE, key=thief)

    def flipped_bits(self) -> Forgery:
        good = self.forge("", self.body()).envelope
        signature = bytearray(good.signature)
        for _ in range(self._random.randint(1, 3)):
            signature[self._random.randrange(64)] ^= 1 << self._random.randrange(8)
        if bytes(signature) == good.signature:
            signature[0] ^= 1
        changed = Envelope(body=good.body, signature=bytes(signature))
        return Forgery(name="flipped bits", envelope=changed, reasons=(Reason.BAD_SIGNATURE,))

    def malleated(self) -> Forgery:
        good = self.forge("", self.body()).envelope
        scalar = int.from_bytes(good.signature[32:], "little") + ORDER
        twin = good.signature[:32] + scalar.to_bytes(33, "little")[:32]
        changed = Envelope(body=good.body, signature=twin)
        return Forgery(name="malleated", envelope=changed, reasons=(Reason.BAD_SIGNATURE,))

    def another_purpose(self) -> Forgery:
        data = canonical.encode(self.body())
        tag = self._random.choice([signing.RECEIPT, signing.CHECKPOINT, b"gensyn-ray/command/v2\n"])
        envelope = Envelope(body=data, signature=key_of("op-a").sign(tag, data))
        return Forgery(name="purpose", envelope=envelope, reasons=(Reason.BAD_SIGNATURE,))

    def small_order_key(self) -> Forgery:
        key = self._random.choice(SMALL_ORDER_KEYS)
        data = canonical.encode(self.body(key=key))
        signature = bytes.fromhex(self._random.choice(SMALL_ORDER_KEYS)) + bytes(32)
        envelope = Envelope(body=data, signature=signature)
        return Forgery(name="small order", envelope=envelope, reasons=(Reason.BAD_SIGNATURE,))

    def not_ones_role(self) -> Forgery:
        operation, arguments = self._random.choice(
            [
                ("Deposit", {"party": party_of("op-a"), "amount_micro": 5}),
                ("Grant", {"party": party_of("op-a"), "amount_micro": 5, "reason": "please"}),
                ("Settle", {"job": "job-1", "items": []}),
                ("ReverseSlash", {"operator": party_of("op-a"), "reason": "please"}),
                ("PayJackpot", {"party": party_of("op-a"), "amount_micro": 5, "evidence": ""}),
                ("CloseJob", {"job": "job-1"}),
            ]
        )
        role = self._random.choice(["operator", "network", "treasury", "submitter", "king", ""])
        body = self.body(operation=operation, arguments=arguments, role=role)
        return self.forge("role", body, Reason.ROLE_NOT_ALLOWED)

    def stranger(self) -> Forgery:
        key = SigningKey(self._random.randbytes(32))
        body = self.body(key=key.public.hex())
        return self.forge("stranger", body, Reason.UNKNOWN_PARTY, key=key)

    def reencoded(self) -> Forgery:
        body = self.body()
        spelt = canonical.decode(canonical.encode(body))
        spelt["arguments"] = {"amount_micro": str(spelt["arguments"]["amount_micro"])}
        form = self._random.randrange(5)
        data = [
            lambda: json.dumps(spelt).encode(),
            lambda: json.dumps(dict(reversed(spelt.items())), separators=(",", ":")).encode(),
            lambda: canonical.encode(body) + b" ",
            lambda: canonical.encode(body).replace(b'"Bond"', b'"\\u0042ond"'),
            lambda: canonical.encode(body).replace(b'{"arg', b'{"arguments":{},"arg', 1),
        ][form]()
        return self.raw("re-encoded", data, Reason.MALFORMED)

    def cut_off(self) -> Forgery:
        data = canonical.encode(self.body())
        return self.raw("cut off", data[: self._random.randrange(len(data))], Reason.MALFORMED)

    def noise(self) -> Forgery:
        data = bytearray(canonical.encode(self.body()))
        data[self._random.randrange(len(data))] = self._random.randrange(128, 256)
        return self.raw("noise", bytes(data), Reason.MALFORMED)

    def unknown_operation(self) -> Forgery:
        name = self._random.choice(["", "bond", "Bond ", "Mint", "__init__", "Book", self.text()])
        return self.forge("operation", self.body(operation=name), Reason.UNKNOWN_OPERATION)

    def wrong_amount(self) -> Forgery:
        amount = self._random.choice(
            [0, -1, -MAX_MICRO, MAX_MICRO + 1, 10**19 - 1, -(10**18), -self._random.getrandbits(50)]
        )
        operation = self._random.choice(["Bond", "Withdraw", "Unbond"])
        body = self.body(operation=operation, arguments={"amount_micro": amount})
        return self.forge("amount", body, Reason.AMOUNT_OUT_OF_RANGE)

    def amount_as_something_else(self) -> Forgery:
        text = canonical.encode(self.body(arguments={"amount_micro": 12345}))
        other = self._random.choice(
            [
                b"12345",
                b"1.5",
                b'"1e9"',
                b'"012"',
                b'"-0"',
                b'"+5"',
                b'" 5"',
                b"null",
                b'"' + b"9" * 40,
            ]
        )
        tail = b'"' if other.endswith(b"9") else b""
        data = text.replace(b'"12345"', other + tail)
        return self.raw("amount's form", data, Reason.MALFORMED)

    def wrong_fields(self) -> Forgery:
        body = self.body()
        name = self._random.choice(sorted(body))
        if self._random.random() < 0.5:
            del body[name]
            if name == "key":
                return self.forge("field", body, Reason.MALFORMED)
        else:
            body[name] = self._random.choice([None, [], {}, 5.5, True, [[]]])
        reasons = (Reason.MALFORMED, Reason.BAD_SIGNATURE)
        return self.forge("field", body, *reasons)

    def replayed_with_a_new_signature(self) -> Forgery:
        seen = self._random.choice(self._accepted)
        envelope = Envelope(body=seen.body, signature=self._random.randbytes(64))
        return Forgery(name="replayed", envelope=envelope, reasons=(Reason.BAD_SIGNATURE,))

    def self_approval(self) -> Forgery:
        """A treasury key approves its own proposal, or one that does not exist."""
        key = key_of("treasury-0")
        waiting = list(self._kit.authority.journal.book.proposals)
        proposal = self._random.choice([*waiting, self.text()])
        body = self.body(
            key=key.public.hex(),
            role="treasury",
            operation="Approve",
            arguments={"proposal": proposal},
        )
        reason = Reason.ALREADY_APPROVED if proposal in waiting else Reason.UNKNOWN_PROPOSAL
        return self.forge("self-approval", body, reason, key=key)


def _accepted(kit: AuthorityKit) -> list[dict[str, str]]:
    return [json.loads(line)["envelope"] for line in kit.store.read()]
