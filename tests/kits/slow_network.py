"""A network whose volunteers run on slow hosts; its objects are in a bucket."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gensyn_ray.api.network import Network
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import BucketStore, Host, LocalNetwork
from gensyn_ray.testnet.slow_hosts import SlowHost
from tests.kits.ray_network import STAKE_MICRO
from tests.kits.s3_servers import running_moto
from workloads.numerics.profiles import best_profiles


@contextmanager
def network_on(hosts: Sequence[SlowHost], *, seed: int) -> Iterator[Network]:
    """A submitter's client; an honest volunteer runs on each host, all other processes run here.

    Volunteers reach the objects only over their links.
    """
    profile = best_profiles()[0]
    head_ip = hosts[0].head_ip
    with running_moto(head_ip) as bucket:
        store = BucketStore(uri=bucket.uri, credentials=bucket.credentials)
        with LocalNetwork(seed=seed, store=store, ip=head_ip) as network:
            network.start([profile])
            for host in hosts:
                place = Host(ip=host.ip, prefix=host.prefix)
                network.add_volunteer(host.name, profile, stake_micro=STAKE_MICRO, host=place)
            client = Network(network.key("submitter"))
            client.join("submitter")
            network.fund(client.party, 10_000 * MICRO_PER_CREDIT)
            yield client
