"""Brings every definition into the registry."""

import importlib
import pkgutil
from functools import cache

from workloads.numerics import fused, plain


@cache
def load() -> None:
    """Import each module of `plain`, then of `fused`: they register what they define."""
    for package in (plain, fused):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
