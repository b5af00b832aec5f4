"""Every row of `cases_algebra.py`, by the harness of `test_cases.py`."""

from collections import Counter
from functools import cache

import pytest

import bnfold
from tests import reference_more  # noqa: F401  it adds operators to the reference
from tests.cases_algebra import CASES
from tests.test_cases import (  # noqa: F401  collected here, and run on the fixtures below
    Outcome,
    test_argument_is_left_alone,
    test_folding_again_changes_nothing,
    test_folding_is_deterministic,
    test_interface_is_unchanged,
    test_invented_names_are_never_taken,
    test_notes,
    test_nothing_unread_is_left,
    test_one_verdict_for_each_normalization,
    test_operators_that_are_left,
    test_plan_counts_operators,
    test_plan_is_what_fold_does,
    test_refused_model_is_equal,
    test_result_is_valid,
    test_same_values_in_float64,
    test_same_values_in_onnxruntime,
    test_verdicts,
)

FOLDING = [
    case for case in CASES if not all(word.rpartition(":")[2].startswith("BNF") for word in case.expect.replace("|", " ").split())
]


@cache
def fold(place: int) -> Outcome:
    case = CASES[place]
    source = case.model()
    result = bnfold.fold(source, **case.options)
    return Outcome(case, source, result.plan, result.model)


@pytest.fixture(params=range(len(CASES)), ids=lambda place: CASES[place].name)
def row(request: pytest.FixtureRequest) -> Outcome:
    return fold(request.param)


@pytest.fixture(params=[CASES.index(case) for case in FOLDING], ids=lambda place: CASES[place].name)
def folding(request: pytest.FixtureRequest) -> Outcome:
    return fold(request.param)


def test_names_of_rows_are_unique() -> None:
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
