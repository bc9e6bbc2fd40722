"""Registration of all definitions and kernels."""

import importlib
import pkgutil
from functools import cache

from workloads.numerics.kernels import operators as kernels
from workloads.numerics.reference import operators as reference


@cache
def load() -> None:
    """Import every module of `reference.operators`, then every module of `kernels.operators`. Each
    module registers its operators on import."""
    for package in (reference, kernels):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
