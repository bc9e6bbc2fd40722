"""The request for one replay. Imports no torch, because the auditor runs without it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """One segment. `state_before`: digest of the stored predecessor, empty where the segment also
    replays `init`. `spec`: digest of the task's spec."""

    job: str
    slot: str
    spec: str
    state_before: str
