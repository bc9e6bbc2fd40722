"""`gensyn-ray up`: a local network that stays until it is interrupted."""

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from gensyn_ray.cluster import local_record
from gensyn_ray.cluster.local_record import LocalRecord
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from workloads.numerics.profiles import best_profiles

if TYPE_CHECKING:
    from gensyn_ray.testnet.local import Adversary, LocalNetwork

VOLUNTEERS = ("volunteer-1", "volunteer-2", "volunteer-3")
CHEAT = "volunteer-2"
STAKE = 100
"""Credits that each volunteer bonds."""


def bring_up(
    network: "LocalNetwork", console: Console, *, adversary: "Adversary", stake: int
) -> dict[str, str]:
    """Start every node, one after the other; returns each volunteer's profile.

    One volunteer is of the best numerics class, the others of the next. `stake` is in credits.
    """
    best, next_best = best_profiles()
    chosen: dict[str, str] = dict.fromkeys(VOLUNTEERS, next_best)
    chosen[VOLUNTEERS[0]] = best
    with console.status("starting authority, Ray head and verifier"):
        network.start([best, next_best])
    for name, profile in chosen.items():
        with console.status(f"starting {name} ({profile})"):
            network.add_volunteer(
                name,
                profile,
                stake_micro=stake * MICRO_PER_CREDIT,
                adversary=adversary if name == CHEAT else "none",
            )
    return chosen


def up(
    *,
    seed: int | None = None,
    adversary: Literal["lazy", "none"] = "none",
    port: int = 0,
    funds: int = 1000,
) -> None:
    """Run a local network until Ctrl-C. Clients of this user find it by themselves.

    Its volunteers run any program that you submit. A program runs without a sandbox, as you.

    Args:
        seed: Fixes the network's keys.
        adversary: Behaviour of one of the volunteers.
        port: Port of the Ray head; 0 takes a free one.
        funds: Credits for the submitter's key.
    """
    from gensyn_ray.operators.agent import ANY_PROGRAM
    from gensyn_ray.testnet.local import LocalNetwork, Member

    console = Console()
    seed = secrets.randbelow(2**31) if seed is None else seed
    with LocalNetwork(seed=seed, port=port, allow=[ANY_PROGRAM]) as network:
        bring_up(network, console, adversary=adversary, stake=STAKE)
        submitter = Member(name="submitter", role="submitter", key=network.key("submitter"))
        network.enrol(submitter, funds_micro=funds * MICRO_PER_CREDIT)
        key_file = network.home / "submitter.key"
        key_file.touch(mode=0o600)
        key_file.write_text(network.secret("submitter").hex())
        token = os.environ["RAY_AUTH_TOKEN"]
        record = LocalRecord.of_this_process(
            address=network.address, token=token, key_file=str(key_file)
        )
        local_record.write(record)
        try:
            _say_how_to_use(console, network, token, key_file, funds)
            while True:
                time.sleep(1)
        finally:
            local_record.remove(record)


def _say_how_to_use(
    console: Console, network: "LocalNetwork", token: str, key_file: Path, funds: int
) -> None:
    lines = [
        f"The network is up, and your key has {funds} credits. In another shell:",
        "",
        "    gensyn-ray submit digits",
        "",
        "or in Python: network = gensyn_ray.connect(). Other users of this machine need",
        "",
        f"    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN={token}",
        f"    gensyn-ray submit digits --address {network.client_address} --key-file {key_file}",
        "",
        "Ctrl-C ends the network.",
    ]
    console.print("\n".join(lines), soft_wrap=True, highlight=False)
