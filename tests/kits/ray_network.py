"""What tests of real clusters share: stakes and the volunteers of the shared network."""

from gensyn_ray.domain.money import MICRO_PER_CREDIT

STAKE_MICRO = 1000 * MICRO_PER_CREDIT
VOLUNTEERS = ("volunteer-1", "volunteer-2")
"""Of the network that `tests/ray/shared_network` shares."""
