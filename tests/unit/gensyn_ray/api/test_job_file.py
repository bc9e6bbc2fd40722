"""Job files: the examples are valid, and an error names each mistake."""

import tomllib
from pathlib import Path

import pytest

from gensyn_ray.api import job_file
from gensyn_ray.api.terms import Audit, Budget
from gensyn_ray.domain.errors import UsageError
from workloads.programs.catalog import PROGRAMS
from workloads.ray_jobs.diloco.core.plan import Plan
from workloads.ray_jobs.diloco.kind import DilocoRequest
from workloads.ray_jobs.search.kind import SearchRequest

EXAMPLES = Path(__file__).parents[4] / "docs" / "examples"


def written(folder: Path, text: str) -> Path:
    path = folder / "job.toml"
    path.write_text(text)
    return path


SWEEP = """
kind = "sweep"
program = "digits"
[budget]
credits = 12.5
[search]
metric = "accuracy"
mode = "max"
"""


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_each_example_is_valid(path: Path) -> None:
    spec = job_file.read(path)
    spec.check()
    assert spec.kind == path.stem.partition("-")[0]
    assert spec.program is PROGRAMS[tomllib.loads(path.read_text())["program"]]
    if path.stem == "sweep":
        assert isinstance(spec.request, SearchRequest)
        assert set(spec.request.param_space) == {"model", "width", "hidden", "lr", "dropout"}


def test_there_is_an_example_of_each_kind() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.toml")} >= {"sweep", "finetune", "pretrain"}


def test_credits_and_rates_become_whole_numbers(tmp_path: Path) -> None:
    spec = job_file.read(written(tmp_path, SWEEP + "[audit]\nrate = 0.3\n"))
    assert spec.budget == Budget(total_micro=12_500_000, per_segment_micro=1_000_000)
    assert spec.terms.audit == Audit(rate_ppm=300_000, draw_batch=8)
    assert job_file.read(written(tmp_path, SWEEP)).terms.audit == Audit()


@pytest.mark.parametrize(
    ("kind", "sections", "said"),
    [
        ("sweep", "", r"needs one section \[search\]"),
        ("sweep", "[plan]\nrounds = 1\nsteps = 1", r"needs one section \[search\]"),
        ("pretrain", "[search]\nmetric = 'a'\nmode = 'max'", r"needs one section \[plan\]"),
        ("finetune", "", r"needs one section \[search\] or \[plan\]"),
        (
            "finetune",
            "[plan]\nrounds = 1\nsteps = 1\n[search]\nmetric = 'a'\nmode = 'max'",
            r"needs one section \[search\] or \[plan\]",
        ),
    ],
)
def test_each_kind_needs_its_section(tmp_path: Path, kind: str, sections: str, said: str) -> None:
    text = f'kind = "{kind}"\nprogram = "digits"\n[budget]\ncredits = 1\n{sections}\n'
    with pytest.raises(UsageError, match=said):
        job_file.read(written(tmp_path, text))


def test_a_finetuning_with_a_plan_is_a_diloco_job(tmp_path: Path) -> None:
    text = EXAMPLES.joinpath("finetune-shared.toml").read_text()
    request = job_file.read(written(tmp_path, text)).request
    assert isinstance(request, DilocoRequest)
    assert request.workers == (2, 3)


def test_a_plan_and_workers(tmp_path: Path) -> None:
    text = """
kind = "pretrain"
program = "gpt"
workers = [2, 3]
[budget]
credits = 1
[plan]
rounds = 3
steps = 7
"""
    request = job_file.read(written(tmp_path, text)).request
    assert request == DilocoRequest(plan=Plan(rounds=3, steps=7), workers=(2, 3))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("kind", "kinds"), "unknown kinds: choose from kind, program"),
        (("metric", "metrik"), "unknown search.metrik: choose from metric, mode"),
        (('"sweep"', '"sweeep"'), "unknown kind 'sweeep': choose from sweep, finetune, pretrain"),
        (("12.5", '"much"'), "budget.credits: Expected `float`, got `str`"),
        (("[search]", "[audit]"), "unknown audit.metric"),
        (("credits = 12.5", ""), "missing required field `credits`"),
        (('program = "digits"', ""), "missing required field `program`"),
        (('"accuracy"', "[1]"), "search.metric: Expected `str`, got `int`"),
        (('"max"', '["max", "min"]'), "one of min and max for each"),
        (('"digits"', '"digits'), "is no TOML"),
        (('"digits"', '"digitz"'), "unknown program 'digitz': choose from digits"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    path = written(tmp_path, SWEEP.replace(*change))
    with pytest.raises(UsageError) as raised:
        job_file.read(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_users_program_is_read_from_beside_the_job_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from tests.kits.small_programs import Small as Mine\n")
    spec = job_file.read(written(tmp_path, SWEEP.replace('"digits"', '"mine.py:Mine"')))
    assert spec.program.__name__ == "Small"
    for wrong, said in (
        ("mine.py:Other", "no program called Other"),
        ("no.py:X", "no Python file"),
    ):
        path = written(tmp_path, SWEEP.replace('"digits"', f'"{wrong}"'))
        with pytest.raises(UsageError, match=said):
            job_file.read(path)
