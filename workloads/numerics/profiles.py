"""Named sets of environment variables that fix the instruction set of stock kernels.

The module imports torch only inside `best_profiles`, so that a process that only names a profile
starts fast.
"""

from collections.abc import Mapping

PROFILES: Mapping[str, Mapping[str, str]] = {
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "baseline": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}
"""Environment of `ray start`, by the profile's name. A machine without the instructions gets the
class of a lower profile."""


def best_profiles() -> tuple[str, str]:
    """The names of the two best profiles of this processor, best first."""
    import torch

    best = torch.backends.cpu.get_cpu_capability()
    return ("avx512", "avx2") if best == "AVX512" else ("avx2", "baseline")
