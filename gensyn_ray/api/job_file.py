"""Job files: a job in TOML, for people who submit from a shell.

    kind = "sweep"                      # or "finetune", "pretrain"
    program = "fashion"                 # of the catalog, or "my_file.py:MyProgram"
    data = "8c3f..."                    # what `gensyn-ray data prepare` printed

    [budget]
    credits = 300

    [search]                            # a sweep
    metric = "accuracy"
    mode = "max"
    trials = 20
    [space]
    model = { choice = ["cnn", "mlp"] }
    lr = { loguniform = [1e-4, 1e-1] }

docs/examples has a file of each kind. An unknown name is refused, with the known names. The names
beside `kind`, `program`, `data`, `numerics`, `seed`, `budget` and `audit` belong to the kinds
(`KindRequest.tables` in `workloads.ray_jobs`).
"""

import importlib.util
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gensyn_ray.api.terms import Audit, Budget, JobSpec, Terms
from gensyn_ray.domain.errors import UsageError
from gensyn_ray.domain.numerics import REPRODUCIBLE
from workloads.core.program import Program
from workloads.core.program_errors import told_to_its_author
from workloads.programs.catalog import PROGRAMS
from workloads.ray_jobs import registry
from workloads.ray_jobs.kind.tables import filled, refuse_unknown, typed

COMMON = ("kind", "program", "budget", "data", "numerics", "seed", "audit")


def read(path: Path) -> JobSpec:
    """The job that a file describes.

    Raises `UsageError` that names the file and the line or field at fault, and `ProgramFailed` for
    what the program's own file raises."""
    try:
        written = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}") from None
    try:
        return _spec_of(written, path.parent)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _spec_of(written: Mapping[str, Any], folder: Path) -> JobSpec:
    refuse_unknown(written, (*COMMON, *registry.table_names()))
    for name in ("kind", "program", "budget"):
        if name not in written:
            raise UsageError(f"missing required field `{name}`")
    job_kind = typed(written["kind"], str, "kind")
    budget = filled(Budget.from_credits, written["budget"], where="budget")
    terms = Terms(
        data=typed(written.get("data", ""), str, "data"),
        audit=filled(Audit.from_rate, written.get("audit", {}), where="audit"),
        numerics=typed(written.get("numerics", REPRODUCIBLE), str, "numerics"),
        seed=typed(written.get("seed", 0), int, "seed"),
    )
    kind = registry.selected_kind(job_kind, written)
    program = program_called(typed(written["program"], str, "program"), folder)
    request = kind.from_tables(job_kind, written, seed=terms.seed, segments=program.segments)
    return JobSpec(kind=job_kind, program=program, request=request, budget=budget, terms=terms)


def program_called(name: str, folder: Path) -> type[Program]:
    """The program that a job file names: "NAME" of the catalog, or "FILE:CLASS" below `folder`.

    Raises `UsageError`, and `ProgramFailed` for what the file raises."""
    file, _, attribute = name.rpartition(":")
    if not file:
        if name not in PROGRAMS:
            raise UsageError(f"unknown program {name!r}: choose from {', '.join(PROGRAMS)}")
        return PROGRAMS[name]
    spec = importlib.util.spec_from_file_location(Path(file).stem, folder / file)
    if spec is None or spec.loader is None or not (folder / file).exists():
        raise UsageError(f"{folder / file} is no Python file")
    beside = str((folder / file).parent.resolve())
    if beside not in sys.path:  # as for a script: modules beside the file can be imported
        sys.path.insert(0, beside)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with told_to_its_author(str(folder / file)):
        spec.loader.exec_module(module)
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, Program)):
        raise UsageError(f"{file} has no program called {attribute}")
    return found
