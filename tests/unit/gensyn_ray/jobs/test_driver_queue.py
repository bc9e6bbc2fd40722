"""Drivers start in the order of their jobs, as many as fit."""

import pytest

from gensyn_ray.jobs.driver_queue import (
    DRIVER_BYTES,
    STARTS,
    OpenJobDriver,
    drivers_that_fit,
    waiting,
)


def driver(
    job: str, status: str = "", starts: int | None = None, submitter: str = "s"
) -> OpenJobDriver:
    number = int(bool(status)) if starts is None else starts
    return OpenJobDriver(job=job, kind="sweep", submitter=submitter, starts=number, status=status)


def test_one_submitters_many_jobs_do_not_keep_another_from_a_driver() -> None:
    many = [driver(f"many-{number}") for number in range(5)]
    other = [driver("other-1", submitter="t"), driver("other-2", submitter="t")]
    start, wait = waiting([driver("first", "RUNNING"), *many, *other], 3)
    assert [one.job for one in start] == ["other-1", "many-0"]
    assert wait == ["other-2", "many-1", "many-2", "many-3", "many-4"]


def test_the_oldest_jobs_start_and_the_others_wait() -> None:
    drivers = [driver("a", "RUNNING"), driver("b"), driver("c", "PENDING"), driver("d")]
    start, wait = waiting([*drivers, driver("e")], 3)
    assert ([one.job for one in start], wait) == (["b"], ["d", "e"])


def test_a_driver_that_ended_takes_no_place_and_one_that_died_starts_again() -> None:
    drivers = [driver("a", "SUCCEEDED"), driver("b", "FAILED"), driver("c", "STOPPED")]
    start, wait = waiting(drivers, 1)
    assert ([one.job for one in start], wait) == (["b"], [])


def test_a_driver_that_always_dies_is_given_up() -> None:
    assert waiting([driver("a", "FAILED", STARTS)], 1) == ([], [])


def test_more_drivers_than_the_limit_start_none() -> None:
    running = [driver(str(number), "RUNNING") for number in range(4)]
    assert waiting([*running, driver("a")], 2) == ([], ["a"])


@pytest.mark.parametrize(
    ("free_bytes", "cores", "most"),
    [(0, 2, 1), (4 * DRIVER_BYTES, 8, 2), (100 * DRIVER_BYTES, 2, 8), (100 * DRIVER_BYTES, 64, 50)],
)
def test_memory_and_cores_limit_the_drivers(free_bytes: int, cores: int, most: int) -> None:
    assert drivers_that_fit(free_bytes, cores) == most
