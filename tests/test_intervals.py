"""Intervals and tests for proportions: published values, and properties that hold for all counts."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfold.runtime.accuracy.intervals import mcnemar, mean_bound, quantile, samples_for, tango, wilson

# R. G. Newcombe, Stat. Med. 17 (1998) 857, table I, method 3; the last two rows: with no hit the bound is z² / (n + z²).
WILSON = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
    (0, 100, 0.0, 0.0370),
    (0, 10_000, 0.0, 0.00038),
]


@pytest.mark.parametrize(("hits", "total", "low", "high"), WILSON)
def test_wilson_gives_published_values(hits: int, total: int, low: float, high: float) -> None:
    assert wilson(hits, total) == pytest.approx((low, high), abs=5.1e-5)


@pytest.mark.parametrize(
    ("lost", "gained", "total", "confidence", "low", "high"),
    [
        # M. W. Fagerland, S. Lydersen, P. Laake, Stat. Med. 33 (2014) 2850, airway hyper-responsiveness (Bentur et al. 2009).
        (1, 7, 21, 0.95, -0.517, -0.026),
        # R's PropCIs::scoreci.mp(25, 28, 618), 90 %.
        (28, 25, 618, 0.90, -0.0148, 0.0247),
    ],
)
def test_tango_gives_published_values(lost: int, gained: int, total: int, confidence: float, low: float, high: float) -> None:
    digits = 5.1e-4 if confidence == 0.95 else 5.1e-5
    assert tango(lost, gained, total, confidence) == pytest.approx((low, high), abs=digits)


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (1, 7, 18 / 256),  # Bentur et al. 2009, as above: 0.0703
        (6, 16, 0.0525),  # Cavo et al. 2012, in the same paper
        (0, 0, 1.0),
        (0, 1, 1.0),
        (0, 6, 2 / 64),
        (10, 10, 1.0),
    ],
)
def test_mcnemar_gives_published_values(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p, abs=5e-5)


COUNTS = st.integers(0, 300)


@given(COUNTS, COUNTS)
def test_mcnemar_is_the_exact_binomial_tail(lost: int, gained: int) -> None:
    total, few = lost + gained, min(lost, gained)
    exact = min(1.0, 2 * sum(math.comb(total, each) for each in range(few + 1)) / 2**total)
    assert mcnemar(lost, gained) == pytest.approx(exact, rel=1e-10)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_mcnemar_copes_with_very_many() -> None:
    assert mcnemar(500_000, 500_000) == pytest.approx(1.0)
    assert mcnemar(500_000, 503_000) == pytest.approx(math.erfc(2999 / math.sqrt(1_003_000) / math.sqrt(2)), rel=1e-3)


@given(st.integers(1, 2000), st.data())
def test_wilson_holds_the_estimate_and_turns_around(total: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, total))
    low, high = wilson(hits, total)
    assert 0 <= low <= hits / total <= high <= 1
    assert wilson(total - hits, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    z = quantile()
    for bound in (low, high):  # what Wilson's limits are: the proportions that the score test just rejects
        if 0 < bound < 1:
            assert abs(hits / total - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / total), rel=1e-6, abs=1e-9)


PAIRS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300)).filter(lambda each: sum(each) > 0)


@given(PAIRS)
def test_tango_holds_the_estimate_and_is_antisymmetric(counts: tuple[int, int, int]) -> None:
    lost, gained, _ = counts
    total = sum(counts)
    low, high = tango(lost, gained, total)
    assert -1 <= low <= (lost - gained) / total <= high <= 1
    assert tango(gained, lost, total) == pytest.approx((-high, -low), abs=1e-12)
    assert tango(lost, gained, total, 0.99)[1] >= high


@given(PAIRS)
def test_tango_is_what_a_score_test_just_rejects(counts: tuple[int, int, int]) -> None:
    lost, gained, same = counts
    total = sum(counts)
    upper = tango(lost, gained, total)[1]
    if not 1e-6 < upper < 1 - 1e-6:
        return
    gain = _likeliest_gain(lost, gained, same, upper)
    deviation = math.sqrt(total * (2 * gain + upper * (1 - upper)))
    assert (lost - gained - total * upper) / deviation == pytest.approx(-quantile(), rel=1e-4)


def _likeliest_gain(lost: int, gained: int, same: int, drop: float) -> float:
    """Maximizes the likelihood of P(gained) = q, P(lost) = q + drop numerically: golden section, the function is concave."""

    def likelihood(q: float) -> float:
        cells = ((lost, q + drop), (gained, q), (same, 1 - 2 * q - drop))
        return sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    low, high = 0.0, (1 - drop) / 2
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(200):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (left, high) if likelihood(left) < likelihood(right) else (low, right)
    return (low + high) / 2


@pytest.mark.parametrize("total", [20, 100, 10_000])
def test_without_flips_tango_is_wilson(total: int) -> None:
    assert tango(0, 0, total)[1] == pytest.approx(wilson(0, total)[1], rel=1e-12)


@pytest.mark.parametrize(("rate", "drop"), [(0.02, 0.0), (0.05, 0.0), (0.05, 0.05), (0.15, 0.1)])
def test_tango_covers_as_often_as_it_says(rate: float, drop: float) -> None:
    # Over every table of 60 pairs with its probability: P(gained) = rate, P(lost) = rate + drop.
    total, covered = 60, 0.0
    for lost, gained in product(range(total + 1), repeat=2):
        same = total - lost - gained
        if same < 0:
            continue
        ways = math.comb(total, lost) * math.comb(total - lost, gained)
        probability = ways * (rate + drop) ** lost * rate**gained * (1 - 2 * rate - drop) ** same
        if probability > 1e-9 and (lambda low, high: low <= drop <= high)(*tango(lost, gained, total)):
            covered += probability
    assert covered >= 0.93


@pytest.mark.parametrize("margin", [0.001, 0.01, 0.05, 0.3])
def test_samples_for_is_the_smallest_number_that_is_enough(margin: float) -> None:
    enough = samples_for(margin)
    assert tango(0, 0, enough)[1] < margin <= tango(0, 0, enough - 1)[1]


def test_nothing_is_known_without_trials() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert tango(0, 0, 0) == (-1.0, 1.0)


def test_the_bound_of_a_mean() -> None:
    values = [0.1, 0.4, -0.2, 0.3]
    deviation = math.sqrt(sum((value - 0.15) ** 2 for value in values) / 3 / 4)
    assert mean_bound(4, sum(values), sum(value**2 for value in values)) == pytest.approx(0.15 + 1.959964 * deviation, rel=1e-6)
    assert mean_bound(1, 0.1, 0.01) == math.inf
