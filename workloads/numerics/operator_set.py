"""Brings every definition and every kernel into the registry."""

import importlib
import pkgutil
from functools import cache

from workloads.numerics.kernels import operators as kernels
from workloads.numerics.reference import operators as reference


@cache
def load() -> None:
    """Import each module of `reference.operators`, then of `kernels.operators`. Each registers what
    it defines."""
    for package in (reference, kernels):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
