"""The verifiers of a network, and the choice of one for each replay.

A verifier joins with the numerics classes that it replays. The choice follows from the draw's
value by rendezvous hashing: it cannot be foreseen, and anyone can check it.
"""

from collections.abc import Iterable

from verifier_actors.core import draw
from verifier_actors.core.audit import Audit


class Panel:
    """The verifiers that joined, with their classes."""

    def __init__(self) -> None:
        self._classes: dict[str, frozenset[str]] = {}

    def add(self, party: str, classes: Iterable[str]) -> None:
        """A verifier joins."""
        self._classes[party] = frozenset(classes)

    def serving(self, numerics: str, *, not_of: str) -> list[str]:
        """Verifiers that replay a class, in the order in which they joined. `not_of`: a party that
        is left out."""
        return [
            party
            for party, classes in self._classes.items()
            if numerics in classes and party != not_of
        ]

    def verifier(self, audit: Audit, value: bytes) -> str:
        """The verifier of a drawn segment. Raises `ValueError` if none can replay it."""
        return draw.choose(value, self.serving(audit.numerics, not_of=audit.operator))

    def referee(self, audit: Audit, link: bytes) -> str:
        """The referee of a dispute: neither the operator nor the verifier. Empty if there is none.

        `link`: the network's last beacon link.
        """
        others = [
            party
            for party in self.serving(audit.numerics, not_of=audit.operator)
            if party != audit.verifier
        ]
        if not others:
            return ""
        value = draw.draw_value(
            link=link,
            root=bytes.fromhex(audit.root),
            secret=b"referee",
            leaf_index=audit.leaf_index,
        )
        return draw.choose(value, others)
