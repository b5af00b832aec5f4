"""The garbage collector is paused while views are made, and everything is as before afterwards."""

from __future__ import annotations

import gc
import weakref

import pytest

import bnfold
from bnfold.collector import paused
from tests.cases import CASES


class Knot:
    """Holds itself: only the collector frees it."""

    def __init__(self) -> None:
        self.own = self


def test_it_is_enabled_again():
    with paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_enabled_again_after_an_error():
    with pytest.raises(ZeroDivisionError), paused():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_one_that_was_disabled_stays_so():
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_pauses_nest():
    with paused():
        with paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_nothing_is_frozen_afterwards():
    gc.unfreeze()  # as the command line may have left it
    with paused():
        kept = [[place] for place in range(100_000)]
    assert gc.get_freeze_count() == 0
    assert len(kept) == 100_000


def test_what_was_frozen_stays_so():
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with paused():
            kept = [[place] for place in range(100_000)]
        assert gc.get_freeze_count() >= frozen - 1000 > 0  # some of it may have been freed
        assert len(kept) == 100_000
    finally:
        gc.unfreeze()


def test_the_garbage_of_others_is_collected_all_the_same():
    model = CASES[0].model()
    knots = []
    for _ in range(200):
        knots += [weakref.ref(Knot()) for _ in range(50)]
        bnfold.plan(model)
    assert sum(knot() is not None for knot in knots) < len(knots) / 2


def test_a_large_plan_leaves_no_circles():
    """Nothing of a view is left to the collector, which may not come by for a long time."""
    model = CASES[0].model()
    bnfold.fold(model, keep=["nothing"])
    gc.collect()
    gc.disable()
    try:
        bnfold.fold(model, keep=["nothing"])  # with a choice, on a view
        assert gc.collect() == 0
    finally:
        gc.enable()
