"""Folds every built network in three exports and writes docs/networks.md: what folds, what stays and why, what it changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch

import bnfold
from bnfold.report.report import Report
from models.export import save, tidy, to_onnx
from models.networks import NETWORKS, Network

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
EXPORTS = ("clean", "raw", "float16")
BUDGET_S = 4.0  # for each verification; one input at least is evaluated in float64
BIASED = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class Left:
    """One code under which normalizations of a network stay.

    Attributes:
        code: the stable code.
        count: how many.
        example: bnfold's own sentence about the first.
    """

    code: str
    count: int
    example: str


@dataclass(frozen=True)
class Row:
    """One export of one network, folded and verified.

    Attributes:
        name: the network's key in `NETWORKS`.
        export: "clean", "raw" or "float16".
        parameters: of the module, without running statistics.
        before: BatchNormalization nodes in the export.
        after: BatchNormalization nodes in the folded model.
        left: why they stay.
        failure: what the verification found; "" when it passed.
        relative: max|Δ| / max|original|, the largest over all inputs, with and without onnxruntime's optimizations.
        argmax_changed: rows whose largest value moved; None where the output has no classes.
        argmax_total: all rows that were looked at.
        computed_biases_before: operators whose bias the export computes in the graph (Shape, Expand, CastLike).
        computed_biases_after: the same in the folded model.
        error: of the export on normal inputs, against the module in float64, relative to its largest output.
        folded_error: the same of the folded model.
    """

    name: str
    export: str
    parameters: int
    before: int
    after: int
    left: tuple[Left, ...]
    failure: str
    relative: float
    argmax_changed: int | None
    argmax_total: int
    computed_biases_before: int
    computed_biases_after: int
    error: float
    folded_error: float


def survey(names: Iterable[str], show: Callable[[str], None]) -> list[Row]:
    """Builds, exports, folds and verifies networks at their real width; `show` hears of each row as it is done."""
    rows = []
    for name in names:
        network = NETWORKS[name]
        with TemporaryDirectory() as folder:
            for module, path in exports(network, Path(folder)):
                rows.append(measure(name, module, path))
                show(_progress(rows[-1]))
    return rows


def exports(network: Network, folder: Path) -> Iterator[tuple[torch.nn.Module, Path]]:
    """Writes the three exports of a network, in the order of `EXPORTS`; yields the module as it was exported, and each path."""
    module, example = network.build(), network.example()
    clean, raw, half = (folder / f"{export}.onnx" for export in EXPORTS)
    model = to_onnx(module, example, network.input, network.output)
    save(model, raw)
    tidy(model)
    save(model, clean)
    yield module, clean
    yield module, raw
    module = module.half()
    model = to_onnx(module, example.half(), network.input, network.output)
    tidy(model)
    save(model, half)
    yield module, half


def measure(name: str, module: torch.nn.Module, path: Path) -> Row:
    """Folds the export of `module` at `path`, verifies the result, and compares both with the module in float64."""
    folded = path.with_suffix(".folded.onnx")
    report = bnfold.optimize(path, folded, budget_s=BUDGET_S)
    verification = report.verification
    assert verification is not None, f"nothing folds in {name}"
    if not report.written:
        bnfold.optimize(path, folded, verify=False)
    plan = report.plan
    network = NETWORKS[name]
    error, folded_error = errors(network, module, [path, folded])
    return Row(
        name=name,
        export=path.stem,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        before=plan.operators_before.get("BatchNormalization", 0),
        after=plan.operators_after.get("BatchNormalization", 0),
        left=left(report),
        failure="; ".join(verification.failures),
        relative=max((output.worst.relative for output in verification.outputs), default=math.nan),
        argmax_changed=verification.argmax_changed if network.output == "logits" else None,
        argmax_total=verification.argmax_total,
        computed_biases_before=computed_biases(path),
        computed_biases_after=computed_biases(folded),
        error=error,
        folded_error=folded_error,
    )


def errors(network: Network, module: torch.nn.Module, paths: list[Path], inputs: int = 4) -> list[float]:
    """The largest error of each model against `module` in float64, relative to the largest value of its output.

    NaN or inf where a model's own output is not finite.
    """
    kind = next(module.parameters()).dtype
    exact = copy.deepcopy(module).double()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # the graph itself, as it stands
    sessions = [onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths]
    generator = torch.Generator().manual_seed(0)
    worst = [0.0] * len(paths)
    for _ in range(inputs):
        sample = torch.randn(1, *network.shape, generator=generator).to(kind)
        with torch.no_grad():
            truth = exact(sample.double()).numpy()
        for place, session in enumerate(sessions):
            found = session.run([network.output], {network.input: sample.numpy()})[0]
            worst[place] = float(np.maximum(worst[place], np.abs(found - truth).max() / np.abs(truth).max()))  # NaN stays NaN
    return worst


def left(report: Report) -> tuple[Left, ...]:
    """The BatchNormalization nodes that stay, by code."""
    stays = [each for each in report.plan.refusals if each.normalization.op_type == "BatchNormalization"]
    by_code = {code: [each for each in stays if each.code == code] for code in sorted({each.code for each in stays})}
    return tuple(Left(code, len(found), found[0].sentence) for code, found in by_code.items())


def computed_biases(path: Path) -> int:
    """How many operators have a bias that a node computes."""
    graph = onnx.load(path).graph
    made = {output for node in graph.node for output in node.output}
    return sum(node.op_type in BIASED and len(node.input) > 2 and node.input[2] in made for node in graph.node)


def page(rows: list[Row]) -> str:
    """docs/networks.md."""
    tables = (table(rows) for table in (_fold_table, _rest_table, _difference_table, _error_table))
    return "\n".join([*_head(), *(line for table in tables for line in (*table, ""))])


def _head() -> list[str]:
    torch_version = torch.__version__.partition("+")[0]
    return [
        "# Networks",
        "",
        "What bnfold makes of well-known networks. Nobody trained these: they are built by `python -m models build NAME PATH` at",
        "the width of their papers, with random weights, and with running statistics measured on synthetic inputs (see",
        "[models/README.md](../models/README.md)). All gammas are positive, as nearly all are after training; a negative one",
        "cannot cross a MaxPool.",
        "",
        "Each is exported in three ways: *raw*, as `torch.onnx.export(dynamo=True, optimize=False)` writes it; *clean*, the same",
        "with tidy names and no metadata; and *float16*, cleanly from the module in half precision.",
        "",
        f"Written by `python -m models survey` with bnfold {bnfold.__version__}, torch {torch_version}, "
        f"onnxruntime {onnxruntime.__version__} (CPU). Do not edit.",
        "",
    ]


def _fold_table(rows: list[Row]) -> list[str]:
    lines = [
        "## Normalizations",
        "",
        "| network | source | input | parameters | exports | BatchNormalization before | folded | left |",
        "|---|---|---|--:|---|--:|--:|--:|",
    ]
    groups: dict[tuple[str, int, int, tuple[tuple[str, int], ...]], list[Row]] = {}
    for row in rows:  # exports that fold alike share a line
        groups.setdefault((row.name, row.before, row.after, tuple((each.code, each.count) for each in row.left)), []).append(row)
    for (name, before, after, codes), group in groups.items():
        network = NETWORKS[name]
        which = "all three" if len(group) == len(EXPORTS) else ", ".join(row.export for row in group)
        shape = " × ".join(str(extent) for extent in network.shape)
        why = f"{after} ({', '.join(f'{code}: {count}' for code, count in codes)})" if codes else f"{after}"
        facts = f"[{network.paper}](../models/{network.module}.py) | {shape} | {group[0].parameters:,}"
        lines.append(f"| {network.title} | {facts} | {which} | {before} | {before - after} | {why} |")
    before, after = (sum(getattr(row, name) for row in rows if row.export == "clean") for name in ("before", "after"))
    lines.append(f"| **total** | | | | clean | {before} | {before - after} | {after} |")
    return lines


def _rest_table(rows: list[Row]) -> list[str]:
    lines = ["## Why the rest stays", ""]
    lines += ["| network | code | left | why | what bnfold says of the first |", "|---|---|--:|---|---|"]
    for row in (row for row in rows if row.export == "clean"):
        network = NETWORKS[row.name]
        for each in row.left:
            why = network.rest.get(each.code, "**not documented**")
            lines.append(f"| {network.title} | {each.code} | {each.count} | {why} | {each.example} |")
    return lines


def _difference_table(rows: list[Row]) -> list[str]:
    lines = [
        "## What it changed",
        "",
        "max\\|Δ\\| relative to the largest value of the original's output, over the inputs of a verification of 4 s, with and",
        "without onnxruntime's own optimizations; how many answers have another largest value (– for images).",
        "*Computed biases* are convolutions whose absent bias the exporter makes in the graph, by Shape, Expand and CastLike, in",
        "the raw export.",
        "",
        "| network | clean | raw | float16 | argmax changed: clean | raw | float16 | computed biases before | after |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in _by_name(rows).items():
        differences = " | ".join(_difference(found[export]) for export in EXPORTS)
        flips = " | ".join(_flips(found[export]) for export in EXPORTS)
        raw = found["raw"]
        biases = f"{raw.computed_biases_before} | {raw.computed_biases_after}"
        lines.append(f"| {NETWORKS[name].title} | {differences} | {flips} | {biases} |")
    failed = [f"* {NETWORKS[row.name].title}, {row.export}: {row.failure}" for row in rows if row.failure]
    if failed:
        lines += ["", "† Beyond the tolerance: `bnfold optimize` reports it and writes nothing.", "", *failed]
    return lines


def _error_table(rows: list[Row]) -> list[str]:
    lines = [
        "## Against float64",
        "",
        "The largest error against the module in float64 (with its float16 weights, where it has such), relative to the largest",
        "value of its output, on four normal inputs, without onnxruntime's optimizations: what rounding does to either model.",
        "*Not finite*: the model's own output overflows.",
        "",
        "| network | clean: original | folded | float16: original | folded |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, found in _by_name(rows).items():
        pairs = ((found[export].error, found[export].folded_error) for export in ("clean", "float16"))
        lines.append(f"| {NETWORKS[name].title} | {' | '.join(_error(error) for pair in pairs for error in pair)} |")
    return lines


def _by_name(rows: list[Row]) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row.name, {})[row.export] = row
    return found


def _difference(row: Row) -> str:
    return f"{row.relative:.1e}{' †' if row.failure else ''}"


def _error(value: float) -> str:
    return f"{value:.1e}" if math.isfinite(value) else "not finite"


def _flips(row: Row) -> str:
    return "–" if row.argmax_changed is None else f"{row.argmax_changed:,} of {row.argmax_total:,}"


def _progress(row: Row) -> str:
    codes = ", ".join(f"{each.count} {each.code}" for each in row.left)
    outcome = row.failure or f"max|Δ| {row.relative:.1e} relative"
    return f"{row.name} {row.export}: {row.before - row.after} of {row.before} folded{f' ({codes})' if codes else ''}; {outcome}"
