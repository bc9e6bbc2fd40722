"""Orders: parsed commands with a verified signer.

A command's body is {network, genesis, key, role, operation, arguments, nonce, expiry_ms, head}.
`genesis` is the hash of the founding command's body, so that a command for one network is invalid
on another network of the same name. `head` is the log head that the signer saw last, or empty.
"""

from dataclasses import dataclass
from typing import Any, cast

from gensyn_ray.domain import canonical, records, signing
from gensyn_ray.domain.ids import party_id
from gensyn_ray.domain.signing import Envelope, SigningKey
from ledger.core import commands
from ledger.core.commands import Command, Found
from ledger.core.refusals import Reason, Rejected

_KIND_OF: dict[str, type[Command]] = {kind.__name__: kind for kind in commands.KINDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A command's body without its arguments. `key`: the signer's Ed25519 public key, hex."""

    network: str
    genesis: str
    key: str
    role: str
    operation: str
    nonce: str
    expiry_ms: int
    head: str

    @property
    def party(self) -> str:
        return party_id(bytes.fromhex(self.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command whose signature was verified."""

    header: Header
    command: Command
    envelope: Envelope


def write(
    key: SigningKey,
    command: Command,
    *,
    network: str,
    genesis: str,
    role: str,
    nonce: str,
    expiry_ms: int,
    head: str = "",
) -> Envelope:
    """Sign a command. `expiry_ms`: Unix milliseconds after which it is refused."""
    body = {
        "network": network,
        "genesis": genesis,
        "role": role,
        "operation": type(command).__name__,
        "arguments": records.to_json(command),
        "nonce": nonce,
        "expiry_ms": expiry_ms,
        "head": head,
    }
    return signing.seal(key, signing.COMMAND, body)


def read(envelope: Envelope) -> Order | Rejected:
    """Parse an envelope: shape, then signature, then operation and arguments."""
    try:
        header, arguments = _open(envelope)
        key = bytes.fromhex(header.key)
        if key.hex() != header.key:
            raise ValueError("a key is lower-case hex")
    except (ValueError, TypeError, KeyError) as error:
        return Rejected(reason=Reason.MALFORMED, detail=str(error)[:200])
    if not signing.verify(key, signing.COMMAND, envelope.body, envelope.signature):
        return Rejected(reason=Reason.BAD_SIGNATURE)
    kind = _KIND_OF.get(header.operation)
    if kind is None:
        return Rejected(reason=Reason.UNKNOWN_OPERATION, detail=header.operation[:64])
    try:
        command = records.from_json(kind, arguments)
    except records.BadRecord as error:
        return Rejected(reason=Reason.MALFORMED, detail=str(error)[:200])
    return Order(header=header, command=command, envelope=envelope)


def header_of(envelope: Envelope) -> Header:
    """The header, without a signature check. Raises `ValueError`, `TypeError`, `KeyError`."""
    return _open(envelope)[0]


def _open(envelope: Envelope) -> tuple[Header, dict[str, Any]]:
    body = canonical.decode(envelope.body)
    if not isinstance(body, dict):
        raise ValueError("a command is an object")
    content = dict(cast("dict[str, Any]", body))
    arguments = content.pop("arguments")
    if not isinstance(arguments, dict):
        raise ValueError("arguments are an object")
    return records.from_json(Header, content), cast("dict[str, Any]", arguments)


def is_founding(order: Order) -> bool:
    """Whether the order is `Found`, which starts a journal."""
    return isinstance(order.command, Found)
