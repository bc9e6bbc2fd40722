"""Named sets of environment variables that fix the instruction set of stock kernels.

Imports nothing heavy: processes that only name a profile start without torch.
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
"""Environment of `ray start`, by name. Without the instructions a machine falls a class lower."""


def best_profiles() -> tuple[str, str]:
    """The two best instruction sets of this processor, best first."""
    import torch

    best = torch.backends.cpu.get_cpu_capability()
    return ("avx512", "avx2") if best == "AVX512" else ("avx2", "baseline")
