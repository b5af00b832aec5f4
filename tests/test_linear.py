"""The work grows with the model not faster: steps of the interpreter are counted, for a model and for one four times as large."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import bnfold
from benchmarks import cost_models

SMALL, LARGE = 60, 240
GROWTH = LARGE / SMALL


@dataclass(frozen=True)
class Family:
    """Models of one kind, which differ in size."""

    name: str
    write: Callable[[Path, int], None]
    folds: Callable[[int], int]


FAMILIES = [
    Family("a chain of Conv and BatchNormalization", cost_models.chain, lambda size: size // 2),
    Family("nothing to fold", cost_models.nothing_to_fold, lambda size: 0),
    Family("one weight, many operators", cost_models.shared_weight, lambda size: size),
    Family("one tensor, many readers", cost_models.shared_tensor, lambda size: size + 1),
]


def steps(run: Callable[[], object]) -> Counter[str]:
    """How many instructions of Python each function runs; nothing is timed."""
    counts: Counter[str] = Counter()

    def enter(frame, event, argument):
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        name = f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"

        def step(frame, event, argument):
            if event == "opcode":
                counts[name] += 1
            return step

        return step

    previous = sys.gettrace()
    sys.settrace(enter)
    try:
        run()
    finally:
        sys.settrace(previous)
    return counts


def steps_of_folding(family: Family, size: int, folder: Path) -> Counter[str]:
    path = folder / f"{size}.onnx"
    family.write(path, size)

    def optimize() -> None:
        report = bnfold.optimize(path, folder / f"out{size}.onnx", verify=False)
        assert len(report.plan.folds) == family.folds(size)

    return steps(optimize)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_steps_grow_with_the_model(family, tmp_path):
    steps_of_folding(family, SMALL, tmp_path)  # what is loaded and remembered once does not count
    small, large = (steps_of_folding(family, size, tmp_path) for size in (SMALL, LARGE))
    faster = {name: (small[name], count) for name, count in large.items() if count > GROWTH * small[name] + 2000}
    assert faster == {}
    assert large.total() <= GROWTH * small.total()


def test_quadratic_work_would_be_noticed():
    def quadratic(size):
        return sum(1 for left in range(size) for right in range(size) if left == right)

    small, large = (steps(lambda size=size: quadratic(size)) for size in (SMALL, LARGE))
    assert large.total() > 2 * GROWTH * small.total()
