"""The first actors of a search start together. A missing actor delays them for a limited time."""

from workloads.ray_jobs.search.core.start_barrier import StartBarrier


class Keys(set[str]):
    """`SharedKeys` in memory, with the `add` of a set."""

    def count(self, prefix: str) -> int:
        return sum(key.startswith(prefix) for key in self)


def test_the_barrier_opens_when_all_expected_actors_have_arrived() -> None:
    keys, barrier = Keys(), StartBarrier(job="sweep-1", expected=2)
    barrier.arrive(keys, "a")
    barrier.arrive(keys, "a")
    assert not barrier.is_open(keys)
    barrier.arrive(keys, "b")
    assert barrier.is_open(keys)


def test_the_barrier_can_be_opened_without_missing_actors() -> None:
    keys, barrier = Keys(), StartBarrier(job="sweep-1", expected=3)
    barrier.arrive(keys, "a")
    barrier.open(keys)
    assert barrier.is_open(keys)


def test_a_restored_search_expects_none() -> None:
    assert StartBarrier(job="sweep-1", expected=0).is_open(Keys())


def test_jobs_do_not_count_each_others_arrivals() -> None:
    keys = Keys()
    StartBarrier(job="sweep-1", expected=1).arrive(keys, "a")
    assert not StartBarrier(job="sweep-2", expected=1).is_open(keys)
