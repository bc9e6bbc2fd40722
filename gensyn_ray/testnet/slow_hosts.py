"""Hosts on this machine, each with a slow link and a share of a core.

A host is a network namespace. A veth pair joins it to a common bridge; a token bucket limits both
directions; a control group limits the processor.

    with slow_hosts([0.5, 0.25], mbit=20) as hosts:
        subprocess.run([*hosts[0].prefix, "ip", "address"])

Needs root, `ip` and `tc` (iproute2), and the cpu controller of cgroups, version 1 or 2. The hosts
share memory, disk and Unix sockets.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BRIDGES = 256
"""Sets of hosts at the same time; each has its own bridge and network."""
PERIOD_US = 100_000
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowHost:
    """`share`: of one core, in force after `slow_down`. `group`: the control group's folder.
    `head_ip`: the caller's end of the bridge."""

    name: str
    ip: str
    head_ip: str
    share: float
    group: Path

    @property
    def prefix(self) -> tuple[str, ...]:
        """Arguments to put before a command so that it runs on the host."""
        enter = 'echo $$ > "$0" && exec "$@"'
        inside = ("ip", "netns", "exec", self.name)
        return ("sh", "-c", enter, str(self.group / "cgroup.procs"), *inside)

    def slow_down(self) -> None:
        """Limit the host to its share of a core. Before, its processes start without a limit."""
        quota = int(self.share * PERIOD_US)
        if (self.group / "cpu.max").exists():
            (self.group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            return
        (self.group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (self.group / "cpu.cfs_quota_us").write_text(str(quota))


def why_not() -> str:
    """The reason why hosts cannot be made here; empty if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [name for name in ("ip", "tc") if shutil.which(name) is None]:
        return f"{', '.join(missing)} missing: install iproute2"
    if not (_controller() / "cgroup.procs").exists():
        return "no cpu controller of cgroups is mounted"
    try:
        _run(f"ip link delete gsl{_bridge()}")
    except RuntimeError as refused:
        return str(refused)
    return ""


@contextmanager
def slow_hosts(
    shares: Sequence[float], *, mbit: int, apart: bool = False
) -> Iterator[list[SlowHost]]:
    """Hosts with these shares of a core. `apart`: they reach the caller and not each other, like
    machines behind different routers."""
    number = _bridge()
    hosts = [
        SlowHost(
            name=f"gsl{number}-{index}",
            ip=f"10.77.{number}.{10 + index}",
            head_ip=f"10.77.{number}.1",
            share=share,
            group=_controller() / f"gsl{number}-{index}",
        )
        for index, share in enumerate(shares)
    ]
    bridge = f"gsl{number}"
    try:
        _run(f"ip address add 10.77.{number}.1/24 dev {bridge}")
        _run(f"ip link set {bridge} up")
        for host in hosts:
            _plug_in(host, bridge, mbit, apart)
        yield hosts
    finally:
        for host in hosts:
            # A namespace takes its links along some time after it is deleted.
            _run(f"ip link delete {host.name}-o", check=False)
            _run(f"ip netns delete {host.name}", check=False)
            _remove(host.group)
        _run(f"ip link delete {bridge}", check=False)


def _bridge() -> int:
    """Make a bridge and return its number. A bridge that another run left is not used again."""
    said = ""
    for number in range(BRIDGES):
        made = _run(f"ip link add gsl{number} type bridge", check=False)
        if made.returncode == 0:
            return number
        said = made.stderr
        if "exists" not in said:
            break
    raise RuntimeError(f"no bridge for the hosts: {said.strip()}")


def _plug_in(host: SlowHost, bridge: str, mbit: int, apart: bool) -> None:
    host.group.mkdir()
    outer, inside = f"{host.name}-o", f"ip -n {host.name}"
    limit = f"root tbf rate {mbit}mbit burst 32kbit latency 400ms"
    _run(f"ip netns add {host.name}")
    _run(f"ip link add {outer} type veth peer name eth0 netns {host.name}")
    _run(f"ip link set {outer} master {bridge} up")
    if apart:
        _run(f"ip link set dev {outer} type bridge_slave isolated on")
    _run(f"{inside} address add {host.ip}/24 dev eth0")
    _run(f"{inside} link set eth0 up")
    _run(f"{inside} link set lo up")
    _run(f"tc qdisc add dev {outer} {limit}")
    _run(f"tc -n {host.name} qdisc add dev eth0 {limit}")


def _controller() -> Path:
    first = CGROUPS / "cpu"
    return first if first.is_dir() else CGROUPS


def _remove(group: Path) -> None:
    """A control group can be removed after its last process has ended."""
    for _ in range(50):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return


def _run(command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command.split(), check=False, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
    return done
