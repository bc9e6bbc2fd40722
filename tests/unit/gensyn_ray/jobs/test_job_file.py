"""Job files: the examples are read as they stand, and each mistake is named."""

from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, HyperBandScheduler
from ray.tune.schedulers import PopulationBasedTraining as Pbt
from ray.tune.search import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.sample import Categorical, Float, Integer

from gensyn_ray.domain.errors import UsageError
from gensyn_ray.jobs import job_file
from gensyn_ray.jobs.request import Search, Together
from workloads.programs.catalog import PROGRAMS
from workloads.ray_jobs.diloco.core.rounds import Plan

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
def test_an_example_can_be_followed(path: Path) -> None:
    job = job_file.read(path)
    assert job.kind == path.stem.partition("-")[0]
    assert job_file.program_of(job, path.parent) is PROGRAMS[job.program]
    if path.stem == "sweep":
        space = job_file.space_of(job)
        kinds = {name: type(one) for name, one in space.items()}
        assert kinds["model"] is Categorical
        assert kinds["width"] is Integer
        assert kinds["lr"] is Float


def test_there_is_an_example_of_each_kind() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.toml")} >= {"sweep", "finetune", "pretrain"}


def test_credits_become_whole_micro_credits(tmp_path: Path) -> None:
    job = job_file.read(written(tmp_path, SWEEP))
    assert (job.budget.total_micro, job.budget.per_segment_micro) == (12_500_000, 1_000_000)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("asha", ASHAScheduler), ("hyperband", HyperBandScheduler), ("none", FIFOScheduler)],
)
def test_schedulers_by_name(tmp_path: Path, name: str, kind: Any) -> None:
    job = job_file.read(written(tmp_path, SWEEP + f'scheduler = "{name}"\n'))
    assert isinstance(job_file.tune_config_of(job, 8).scheduler, kind)


def test_population_based_training_mutates_what_can_be_drawn(tmp_path: Path) -> None:
    text = SWEEP + 'scheduler = "pbt"\n[space]\nlr = {uniform = [0.1, 1.0]}\nwidth = 8\n'
    scheduler = job_file.tune_config_of(job_file.read(written(tmp_path, text)), 8).scheduler
    assert isinstance(scheduler, Pbt)
    assert list(scheduler._hyperparam_mutations) == ["lr"]


@pytest.mark.parametrize(
    ("name", "kind"), [("tpe", OptunaSearch), ("random", BasicVariantGenerator)]
)
def test_searchers_by_name(tmp_path: Path, name: str, kind: Any) -> None:
    job = job_file.read(written(tmp_path, SWEEP + f'searcher = "{name}"\n'))
    assert isinstance(job_file.tune_config_of(job, 8).search_alg, kind)


SEVERAL = SWEEP.replace('"accuracy"', '["accuracy", "parameters"]').replace(
    '"max"', '["max", "min"]'
)


def test_several_metrics_are_the_searchers_and_the_first_is_shown(tmp_path: Path) -> None:
    job = job_file.read(written(tmp_path, SEVERAL))
    config = job_file.tune_config_of(job, 8)
    assert (config.metric, config.mode) == ("accuracy", "max")
    search = job_file.work_of(job, 8)
    assert isinstance(search, Search)
    search.check()
    assert search.objectives == {"accuracy": "max", "parameters": "min"}


def test_what_is_shown_must_be_looked_for() -> None:
    searcher = OptunaSearch(metric=["accuracy", "size"], mode=["max", "min"])
    for metric, mode in (("loss", "min"), ("size", "max")):
        shown = tune.TuneConfig(metric=metric, mode=mode, search_alg=searcher)
        with pytest.raises(UsageError, match=r"choose from accuracy \(max\), size \(min\)"):
            Search(param_space={}, tune_config=shown).check()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('["max", "min"]', '"max"'), "one of min and max for each"),
        (('["max", "min"]', '["max", "least"]'), "Invalid enum value 'least'"),
        (('["accuracy", "parameters"]', '["loss", "loss"]'), "one of min and max for each"),
        (("[search]", '[search]\nsearcher = "random"'), "a sweep with the searcher tpe"),
        (('kind = "sweep"', 'kind = "finetune"'), "a sweep with the searcher tpe"),
    ],
)
def test_several_metrics_need_as_many_modes_and_tpe(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    path = written(tmp_path, SEVERAL.replace(*change))
    with pytest.raises(UsageError) as raised:
        job_file.read(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


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


def test_a_finetuning_with_a_plan_is_shared(tmp_path: Path) -> None:
    text = EXAMPLES.joinpath("finetune-shared.toml").read_text()
    work = job_file.work_of(job_file.read(written(tmp_path, text)), 8)
    assert isinstance(work, Together)
    assert work.workers == (2, 3)


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
    job = job_file.read(written(tmp_path, text))
    assert job.plan == Plan(rounds=3, steps=7)
    assert job.workers == (2, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("kind", "kinds"), "unknown kinds: choose from kind, program"),
        (("metric", "metrik"), "unknown search.metrik: choose from metric, mode"),
        (('"sweep"', '"sweeep"'), "Invalid enum value 'sweeep'"),
        (("12.5", '"much"'), "Expected `float`, got `str`"),
        (("[search]", "[audit]"), "unknown audit.metric"),
        (("credits = 12.5", ""), "missing required field `credits`"),
        (('"digits"', '"digits'), "is no TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    path = written(tmp_path, SWEEP.replace(*change))
    with pytest.raises(UsageError) as raised:
        job_file.read(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("lr = {normal = [0, 1]}", "space.lr: unknown domain 'normal': choose from choice, grid"),
        ("lr = {uniform = [1]}", "space.lr: uniform takes two numbers"),
    ],
)
def test_a_bad_domain_is_named(tmp_path: Path, space: str, said: str) -> None:
    job = job_file.read(written(tmp_path, f"{SWEEP}[space]\n{space}\n"))
    with pytest.raises(UsageError, match=said):
        job_file.space_of(job)


def test_a_program_of_ones_own_lies_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from tests.kits.small_programs import Small as Mine\n")
    job = job_file.read(written(tmp_path, SWEEP.replace('"digits"', '"mine.py:Mine"')))
    assert job_file.program_of(job, tmp_path).__name__ == "Small"
    for wrong, said in (
        ("mine.py:Other", "no program called Other"),
        ("no.py:X", "no Python file"),
    ):
        job = job_file.read(written(tmp_path, SWEEP.replace('"digits"', f'"{wrong}"')))
        with pytest.raises(UsageError, match=said):
            job_file.program_of(job, tmp_path)


def test_an_unknown_program_says_which_there_are(tmp_path: Path) -> None:
    job = job_file.read(written(tmp_path, SWEEP.replace('"digits"', '"digitz"')))
    with pytest.raises(UsageError, match="unknown program 'digitz': choose from digits"):
        job_file.program_of(job, tmp_path)
