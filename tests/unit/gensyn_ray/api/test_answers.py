"""The records of `Network.read` fit the readings of a real authority."""

import msgspec
import pytest

from gensyn_ray.api.network import ANSWERS
from tests.kits.fake_ledger import reading_of


@pytest.mark.parametrize("view", ["job", "operators", "balance", "open_jobs", "tasks"])
def test_a_real_authoritys_answer_fits_its_record(view: str) -> None:
    real = reading_of(view)
    answer = [real] if str(ANSWERS[view]).startswith("list") else real
    found = msgspec.convert(answer, ANSWERS[view])
    assert msgspec.to_builtins(found) == answer
