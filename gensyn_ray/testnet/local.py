"""A whole network on one machine: authority, agents and Ray nodes as real processes.

Every key is derived from one seed, so that a run can be repeated. This is for demos and tests only:
a real network makes its keys from the operating system's randomness.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import psutil
import ray

from gensyn_ray.cluster import connection
from gensyn_ray.cluster.node_environment import VOLUNTEER_ENVIRONMENT
from gensyn_ray.control_plane.start import start_control
from gensyn_ray.domain import canonical, records
from gensyn_ray.domain.errors import OperationError, Unreachable
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.jobs.nodes import VETTED
from gensyn_ray.operators.agent import AgentConfig
from gensyn_ray.operators.agent_client import SOCKET_VARIABLE
from gensyn_ray.runtime.wall_clock import now_ms
from gensyn_ray.services import home as authority_home
from gensyn_ray.services.presigner import PresignerConfig
from gensyn_ray.testnet.processes import Child, free_port, stop_all
from ledger.client import LedgerClient, Signer
from ledger.core.commands import Approve, Bond, Command, Deposit, Join
from verifier_actors.actors.actor import VerifierSeat
from workloads.core.bundle import bundle_of
from workloads.numerics.node_test import Node, node_in
from workloads.numerics.profiles import PROFILES
from workloads.programs.catalog import PROGRAMS

Adversary = Literal["none", "lazy"]
START_S = 60.0
NETWORK = "testnet"
RAY_COMMAND = (
    "import sys; "
    "absent = ('ray.serve', 'ray.util.state', 'ray.dashboard.modules.job.cli'); "
    "sys.modules.update(dict.fromkeys(absent)); "
    "from ray.scripts.scripts import main; main()"
)
"""`ray` without its commands for Serve, state and jobs. Their imports take two thirds of the time
of `ray start`, which runs once for each node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A party of the network with a key of its own; stake and funds in micro-credits."""

    name: str
    role: str
    key: SigningKey
    numerics: str = ""
    adversary: Adversary = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketStore:
    """A bucket for the network's objects. `credentials`: environment of the head, the verifier node
    and the presigner; submitters and volunteers do not get them."""

    uri: str
    credentials: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The host of a node. `ip`: its address. `prefix`: arguments before each of its commands, such
    as `ip netns exec NAME`."""

    ip: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


HERE = Host()


class LocalNetwork:
    """Start with `start`, add volunteers, end with `stop`; or use as a context manager.

    Objects are in a folder of its home, or in the bucket `store`. `allow`: digests of bundles that
    its volunteers run besides the vetted ones, or `ANY_PROGRAM`. `ip`: the head's, which volunteers
    must reach.
    """

    def __init__(
        self,
        *,
        seed: int,
        port: int = 0,
        reserve_micro: int = 50_000_000,
        store: BucketStore | None = None,
        allow: Sequence[str] = (),
        ip: str = HERE.ip,
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="gensyn-"))
        self.members: dict[str, Member] = {}
        self._seed = seed
        self._store = store
        self._allow = list(allow)
        self._ip = ip
        self._reserve_micro = reserve_micro
        self._port = free_port(port)
        self._dashboard = free_port()
        self._client_port = free_port()
        self._children: dict[str, Child] = {}
        self._nodes: dict[str, Node] = {}
        self._seats: list[VerifierSeat] = []
        self._members_of_ray: dict[str, dict[str, Any]] = {}
        """Node name -> arguments of its start; without the head."""
        self._stopping = Event()
        self._keeping: Thread | None = None
        self._treasury = [self.key(f"treasury-{number}") for number in range(3)]
        (self.home / "blobs").mkdir()

    def __enter__(self) -> "LocalNetwork":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- keys and facts ----------------------------------------------------------------------

    def key(self, name: str) -> SigningKey:
        """The key that this network's seed gives to a name."""
        return SigningKey(self.secret(name))

    def secret(self, name: str) -> bytes:
        """32 bytes that this network's seed gives to a name."""
        return bytes.fromhex(canonical.digest({"seed": self._seed, "name": name}))

    @property
    def address(self) -> str:
        """The address of Ray's head."""
        return f"{self._ip}:{self._port}"

    @property
    def client_address(self) -> str:
        """The address of the head's Ray Client server, for machines outside the cluster."""
        return f"ray://{self._ip}:{self._client_port}"

    @property
    def journal(self) -> Path:
        """The authority's journal database."""
        return self.home / "authority" / "journal.sqlite"

    @property
    def facts(self) -> dict[str, str]:
        """The facts of this network that clients, drivers and agents need."""
        written: dict[str, str] = json.loads((self.home / "authority" / "network.json").read_text())
        return {
            **written,
            "blobs": self._store.uri if self._store else (self.home / "blobs").as_uri(),
            "dashboard": f"http://127.0.0.1:{self._dashboard}",
            "python": sys.executable,
        }

    @property
    def ledger(self) -> LedgerClient:
        """A client of the authority."""
        return LedgerClient(self._ledger_address)

    @property
    def _ledger_address(self) -> str:
        return f"unix:{self.home / 'authority.sock'}"

    @property
    def _presigner_address(self) -> str:
        return f"unix:{self.home / 'presigner.sock'}"

    @property
    def _credentials(self) -> dict[str, str]:
        return dict(self._store.credentials) if self._store else {}

    # -- starting and stopping ---------------------------------------------------------------

    def start(self, profiles: list[str]) -> None:
        """Start authority, Ray head, verifier node and control actors. `profiles`: of all its
        nodes."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        connection.use_token(self.secret("ray token").hex())
        with ThreadPoolExecutor(2) as pool:
            # Self-tests start first: they take seconds, and need no other process.
            nodes = pool.map(lambda profile: node_in(PROFILES[profile]), profiles)
            self.start_authority()
            self._start_presigner()
            self._start_head()
            self._nodes = dict(zip(profiles, nodes, strict=True))
        for profile, node in self._nodes.items():
            for failure in node.reproducible.failures:
                print(f"{profile} serves pinned work only: {failure}", file=sys.stderr)
        # Each has another profile, so that reproducible segments are replayed in different ones.
        self._seats = [
            self._start_verifier_agent(name, profile)
            for name, profile in zip(
                ("verifier", "referee"), cycle(reversed(profiles)), strict=False
            )
        ]
        # One thread each: all nodes share this machine, and kernel threads spin while they wait.
        env = {"OMP_NUM_THREADS": "1", **self._credentials}
        labels = {"gensyn.role": "verifier"}
        with ThreadPoolExecutor(1) as pool:
            # Control actors run on the head, so they can start in parallel with the verifier node.
            control = pool.submit(self._start_control)
            self._start_node("verifier", num_cpus=0, labels=labels, env=env, host=Host(ip=self._ip))
            control.result()
        for seat in self._seats:
            agent = self._children[f"agent {seat.name}"]
            agent.wait_until(Path(seat.socket).exists, timeout_s=START_S)

    def _start_control(self) -> None:
        keeper = start_control(self.facts, self._seats)
        self._stopping = Event()
        self._keeping = Thread(target=keeper.keep, args=[self._stopping], daemon=True)
        self._keeping.start()

    def _leave_ray(self) -> None:
        """Stop the relay keeper and disconnect this process from the cluster."""
        self._stopping.set()
        if self._keeping is not None:
            self._keeping.join()
        if ray.is_initialized():
            ray.shutdown()

    def restart_head(self) -> None:
        """SIGKILL all processes of the head, drivers included, and start the head again.

        Ray's head keeps no state, so every node is started again, too. Authority and agents are not
        part of Ray and keep running, with keys, stake and books. The job gateway then starts the
        drivers of open jobs. Clients must connect again.
        """
        self._leave_ray()
        self._children.pop("node head").kill_all()
        stop_all([self._children.pop(f"node {name}") for name in self._members_of_ray])
        self._start_head()
        for name, how in self._members_of_ray.items():
            self._start_node(name, **how)
        self._start_control()

    def add_volunteer(
        self,
        name: str,
        profile: str,
        *,
        stake_micro: int,
        adversary: Adversary = "none",
        host: Host = HERE,
    ) -> Member:
        """Enrol an operator with key and stake, start its agent, join its node to the cluster."""
        member = Member(
            name=name,
            role="operator",
            key=self.key(name),
            numerics=",".join(self._nodes[profile].classes),
            adversary=adversary,
        )
        self.enrol(member, funds_micro=stake_micro, stake_micro=stake_micro)
        agent = self._start_agent(member)  # starts in parallel with the node
        self.start_volunteer_node(member, profile, self._socket_of(member), host)
        agent.wait_until(self._socket_of(member).exists, timeout_s=START_S)
        return member

    def start_volunteer_node(
        self, member: Member, profile: str, socket: Path, host: Host = HERE
    ) -> None:
        """`ray start` with the operator's environment and labels."""
        env = {**VOLUNTEER_ENVIRONMENT, **PROFILES[profile], SOCKET_VARIABLE: str(socket)}
        if member.adversary != "none":
            folder = Path(__file__).parent / "adversaries" / member.adversary
            env["PYTHONPATH"] = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        labels = {
            "gensyn.role": "volunteer",
            "gensyn.operator": member.key.party,
            "gensyn.numerics": self._nodes[profile].pinned,
            "gensyn.speed": str(round(self._nodes[profile].reproducible.steps_per_second)),
            "gensyn.programs": "more" if self._allow else VETTED,
        }
        self._start_node(member.name, num_cpus=1, labels=labels, env=env, host=host)

    def enrol(self, member: Member, *, funds_micro: int, stake_micro: int = 0) -> None:
        """Join a party, give it funds from the treasury, bond its stake."""
        self.members[member.name] = member
        self.send(member.key, member.role, Join(name=member.name, numerics=member.numerics))
        if funds_micro:
            self.fund(member.key.party, funds_micro)
        if stake_micro:
            self.send(member.key, member.role, Bond(amount_micro=stake_micro))

    def fund(self, party: str, amount_micro: int) -> None:
        """Deposit credits, approved by two of the treasury's three keys."""
        first, second, _ = self._treasury
        deposit = Deposit(party=party, amount_micro=amount_micro)
        proposal = self.send(first, "treasury", deposit)
        self.send(second, "treasury", Approve(proposal=proposal))

    def send(self, key: SigningKey, role: str, command: Command) -> str:
        """Sign and send one command; returns its body hash. Raises `Refused`."""
        envelope = self.sign(key, role, command)
        self.ledger.submit(envelope)
        return envelope.body_hash

    def sign(self, key: SigningKey, role: str, command: Command) -> Envelope:
        """One command for this network."""
        facts = self.facts
        signer = Signer(
            key, role=role, network=facts["network"], genesis=facts["genesis"], clock=now_ms
        )
        return signer.sign(command)

    def processes_of(self, child: str) -> list[psutil.Process]:
        """The processes of a child of this network, such as "node head" or "authority", with those
        that they started."""
        return self._children[child].family()

    def kill_node(self, name: str) -> None:
        """SIGKILL a node's raylet, as a power cut would."""
        self._children[f"node {name}"].kill("raylet")
        self._members_of_ray.pop(name)

    def stop(self, *, keep_home: bool = False) -> None:
        """End the processes that this network started, and only those."""
        self._leave_ray()
        stop_all(list(self._children.values()))
        self._children.clear()
        if not keep_home:
            shutil.rmtree(self.home, ignore_errors=True)

    # -- processes ---------------------------------------------------------------------------

    def _start(self, name: str, command: list[str], env: dict[str, str]) -> Child:
        log = self.home / f"{name.replace(' ', '-')}.log"
        child = self._children[name] = Child(name, command, env=env, log=log)
        return child

    def start_authority(self) -> None:
        """Start the authority only, as a child process. `start` calls this."""
        config = authority_home.Config(
            network=NETWORK,
            treasury_keys=[key.public.hex() for key in self._treasury],
            treasury_threshold=2,
            vetted=[bundle_of(program).digest for program in PROGRAMS.values()],
            parameters=authority_home.default_parameters(self._reserve_micro),
        )
        hidden = authority_home.Secrets(
            network_seed=self.secret("network").hex(), beacon_seed=self.secret("beacon").hex()
        )
        authority_home.prepare(self.home / "authority", config, hidden)
        command = [sys.executable, "-m", "gensyn_ray.services.authority_daemon"]
        child = self._start(
            "authority", [*command, str(self.home / "authority"), self._ledger_address], {}
        )
        child.wait_until(self._authority_answers, timeout_s=START_S)

    def _start_presigner(self) -> None:
        """Start the presigner, if the objects are in a bucket."""
        if self._store is None:
            return
        config = PresignerConfig(
            blobs=self._store.uri,
            ledger=self._ledger_address,
            genesis=self.facts["genesis"],
            listen=self._presigner_address,
        )
        path = self.home / "presigner.json"
        path.write_bytes(canonical.encode(records.to_json(config)))
        command = [sys.executable, "-m", "gensyn_ray.services.presigner", str(path)]
        child = self._start("presigner", command, self._credentials)
        socket = Path(self._presigner_address.removeprefix("unix:"))
        child.wait_until(socket.exists, timeout_s=START_S)

    def stop_authority(self) -> None:
        """End the authority by SIGTERM, as a service manager does, and wait until it has ended."""
        stop_all([self._children.pop("authority")])

    def _authority_answers(self) -> bool:
        try:
            self.ledger.read("health")
        except Unreachable:
            return False
        return True

    def _start_head(self) -> None:
        options = ["--head", f"--port={self._port}", f"--dashboard-port={self._dashboard}"]
        options += [f"--ray-client-server-port={self._client_port}"]
        options += [f"--temp-dir={self.home / 'ray'}", "--num-cpus=0"]
        # Without this, the process that serves the first client usually dies in gRPC's fork
        # handlers, and the client waits for half a minute (ray-project/ray#63202).
        env = {**self._credentials, "GRPC_ENABLE_FORK_SUPPORT": "0"}
        child = self._ray_start("head", options, {"gensyn.role": "head"}, env, Host(ip=self._ip))
        child.wait_until(lambda: self._head_answers(child), timeout_s=START_S)

    def _head_answers(self, head: Child) -> bool:
        if "Ray runtime started" not in head.words():
            return False
        connection.attach(self.address)
        return True

    def _start_node(
        self, name: str, *, num_cpus: int, labels: dict[str, str], env: dict[str, str], host: Host
    ) -> None:
        """Start one node and wait for it, because concurrent `ray start` calls on one host race."""
        how = {"num_cpus": num_cpus, "labels": labels, "env": env, "host": host}
        self._members_of_ray[name] = how
        labels = {**labels, "gensyn.name": name}
        options = [f"--address={self.address}", f"--num-cpus={num_cpus}"]
        child = self._ray_start(name, options, labels, env, host)
        child.wait_until(lambda: self.is_alive(name), timeout_s=START_S)

    def is_alive(self, name: str) -> bool:
        """Whether Ray lists a node of that name as alive."""
        return any(
            node["Alive"] and node["Labels"].get("gensyn.name") == name for node in ray.nodes()
        )

    def _ray_start(
        self, name: str, options: list[str], labels: dict[str, str], env: dict[str, str], host: Host
    ) -> Child:
        command = [*host.prefix, sys.executable, "-c", RAY_COMMAND, "start", "--block"]
        command += ["--disable-usage-stats", *options]
        # A log monitor sends the workers' output to drivers. This network's drivers do not use it.
        command += ["--include-log-monitor=false"]
        command += [f"--node-ip-address={host.ip}", "--num-gpus=0"]
        # The default is one fixed port, which another cluster on this host may use.
        command += [f"--dashboard-agent-listen-port={free_port()}"]
        command += ["--labels=" + ",".join(f"{key}={value}" for key, value in labels.items())]
        return self._start(f"node {name}", command, env)

    def _start_verifier_agent(self, name: str, own: str) -> VerifierSeat:
        """`own`: the profile in which it replays reproducible segments."""
        profiles = {node.pinned: profile for profile, node in self._nodes.items()}
        profiles |= dict.fromkeys(self._nodes[own].classes, own)
        member = Member(name=name, role="verifier", key=self.key(name), numerics=",".join(profiles))
        self.enrol(member, funds_micro=0)
        self._start_agent(member)
        return VerifierSeat(
            party=member.key.party,
            name=name,
            socket=str(self._socket_of(member)),
            profiles=profiles,
        )

    def _socket_of(self, member: Member) -> Path:
        return self.home / f"{member.name}.sock"

    def _start_agent(self, member: Member) -> Child:
        path = self.write_agent_config(member, self._socket_of(member))
        command = [sys.executable, "-m", "gensyn_ray.operators.agent_daemon", str(path)]
        return self._start(f"agent {member.name}", command, {})

    def write_agent_config(self, member: Member, socket: Path) -> Path:
        """Write the configuration file of a member's agent, readable by its owner only. Returns its
        path."""
        facts = self.facts
        config = AgentConfig(
            role=member.role,
            name=member.name,
            numerics=member.numerics,
            key_seed=self.secret(member.name).hex(),
            network=facts["network"],
            genesis=facts["genesis"],
            network_key=facts["network_key"],
            ledger=self._ledger_address,
            socket=str(socket),
            bond_micro=0,
            allow=self._allow,
            receipts=str(self.home / f"{member.name}.receipts"),
            store=self._presigner_address if self._store else "",
        )
        path = self.home / f"{member.name}.json"
        path.touch(mode=0o600)
        path.write_bytes(canonical.encode(records.to_json(config)))
        return path


def wait_for(condition: Any, *, timeout_s: float, what: str) -> None:
    """Return once `condition()` holds. Raises `OperationError` that names `what` after
    `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise OperationError(f"{what} did not come within {timeout_s:.0f} s")
        time.sleep(0.1)
