"""How far honest folds are from the truth: measures what the verification bounds, and writes the table of docs/verification.md.

    python -m benchmarks.fold_errors                              all sources; the networks need PyTorch
    python -m benchmarks.fold_errors --random 2000 --only random  prints the table of some, and writes nothing

Each model is folded and verified as `bnfold optimize` would, on inputs of seed 0, at both optimization levels. `error` is the
candidate's largest error by the larger of the original's and the rounding of the stored weights, the worst input of each output
and level; `algebra` is how far both models are apart in float64, by that rounding; `channel` is the same in the worst channel
of a layer. The verification refuses a fold above 8, 8 and 32.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import bnfold
from benchmarks.marks import fill
from bnfold.errors import BnfoldError
from bnfold.runtime.against_truth import ALGEBRA_FACTOR, ERROR_FACTOR
from bnfold.runtime.layers import CHANNEL_FACTOR
from bnfold.runtime.verification import Verification
from bnfold.runtime.verify import verify

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data" / "models"
PAGE = ROOT / "docs" / "verification.md"
SOURCES = ("networks", "lenet", "shared", "cases", "random")


@dataclass
class Tally:
    """The ratios of one group of folds."""

    folds: int = 0
    refused: list[str] = field(default_factory=list)
    beside_original: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    algebra: list[float] = field(default_factory=list)
    channel: list[float] = field(default_factory=list)

    def add(self, name: str, verification: Verification) -> None:
        if not verification.outputs and verification.notes:
            return  # the original is NaN throughout, or not deterministic: no fold of it can be judged
        self.folds += 1
        self.refused += [f"{name}: {failure}" for failure in verification.failures]
        for row in verification.outputs:
            truth = row.worst.truth
            if truth is None or not truth.largest:
                continue
            self.beside_original.append(truth.furthest)
            self.error.append(ERROR_FACTOR * truth.error_share)
            self.algebra.append(ALGEBRA_FACTOR * truth.algebra_share)
        self.channel += [CHANNEL_FACTOR * layer.severity for layer in verification.layers if layer.status != "moved"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=SOURCES, action="append")
    parser.add_argument("--random", type=int, default=800, metavar="COUNT")
    options = parser.parse_args()
    tallies: dict[str, Tally] = defaultdict(Tally)
    for source in options.only or SOURCES:
        for name, model, feeds, settings in _models(source, options.random):
            group = f"{source}, {_precision(model)}"
            try:
                folded = bnfold.fold(model, **settings)
                if folded.plan.folds:
                    tallies[group].add(name, verify(model, folded.model, inputs=feeds))
            except BnfoldError as error:  # onnxruntime lacks a kernel
                print(f"{name}: {error}", file=sys.stderr)
    print(_table(tallies))
    if not options.only:
        _write(_table(tallies))
    refused = [sentence for tally in tallies.values() for sentence in tally.refused]
    print("\n".join(refused), file=sys.stderr)
    return 1 if refused else 0


def _models(source: str, random: int) -> Iterator[tuple[str, onnx.ModelProto, list[dict[str, np.ndarray]] | None, dict]]:
    if source == "networks":
        for name, model in _networks():
            yield name, model, None, {}
    elif source == "lenet":
        for path in sorted((ROOT / "models").glob("*.onnx")):
            yield path.name, onnx.load(path), None, {}
    elif source == "shared":
        for path in sorted(SHARED.rglob("*.onnx")):
            yield path.name, onnx.load(path), None, {"freeze_initializers": True}
    elif source == "cases":
        from tests.cases import CASES

        for case in CASES:
            if not case.no_runtime:
                yield case.name, case.model(), None, case.options
    else:
        from tests.random_graphs import sample

        for seed in range(random):
            made = sample(seed)
            inputs = {value.name for value in made.model.graph.input}
            constants = {tensor.name for tensor in made.model.graph.initializer}
            yield f"random {seed}", made.model, [{k: v for k, v in made.feeds.items() if k in inputs - constants}], {}


def _networks() -> Iterator[tuple[str, onnx.ModelProto]]:
    import torch

    from models.export import tidy, to_onnx
    from models.networks import NETWORKS

    torch.set_num_threads(1)
    for name, network in NETWORKS.items():
        module, example = network.build(small=True), network.example(small=True)
        for half in (False, True):
            made = copy.deepcopy(module).half() if half else module
            model = to_onnx(made, example.half() if half else example, network.input, network.output)
            tidy(model)
            yield f"{name}{' float16' if half else ''}", model


def _precision(model: onnx.ModelProto) -> str:
    from bnfold.runtime.source import read_source

    return read_source(model, "original").precision


def _table(tallies: dict[str, Tally]) -> str:
    lines = [
        "| folds | number | refused | outputs × levels | error: median, 99 %, largest | algebra: median, 99 %, largest | "
        "layers | channel: median, 99 %, largest | candidate's error / original's: median, largest |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for group, tally in tallies.items():
        cells = [
            group,
            str(tally.folds),
            str(len(tally.refused)),
            str(len(tally.error)),
            _quantiles(tally.error),
            _quantiles(tally.algebra),
            str(len(tally.channel)),
            _quantiles(tally.channel),
            _quantiles([one for one in tally.beside_original if np.isfinite(one)], (0.5, 1.0)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _write(table: str) -> None:
    machine = f"onnxruntime {onnxruntime.__version__}, {platform.machine()} CPU."
    fill(PAGE, "fold-errors", f"{machine}\n\n{table}")


def _quantiles(values: list[float], which: tuple[float, ...] = (0.5, 0.99, 1.0)) -> str:
    return ", ".join(f"{value:.2g}" for value in np.quantile(values, which)) if values else "–"


if __name__ == "__main__":
    raise SystemExit(main())
