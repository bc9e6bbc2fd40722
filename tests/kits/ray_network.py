"""Constants of tests on real clusters: stakes, and the volunteers of the shared network."""

from gensyn_ray.domain.money import MICRO_PER_CREDIT

STAKE_MICRO = 1000 * MICRO_PER_CREDIT
VOLUNTEERS = ("volunteer-1", "volunteer-2")
"""The volunteers of the network in `tests/ray/shared_network`."""
