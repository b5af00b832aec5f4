"""How fast the folded models run in onnxruntime: original, bnfold, its peers, and an ideal folded by hand in PyTorch.

    python -m benchmarks.inference [--quick] [--network NAME]... [--python PEERS/bin/python]

All contestants of a cell run interleaved in one process, in blocks with fresh sessions, with a second session of the original
as control; `bnfold.runtime.bench_statistics` says what may be claimed. A cell that is in inference.json already is not measured
again unless --fresh is given.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

from benchmarks.contestants import EXPORTS, Contestant, contestants
from benchmarks.machine import facts
from bnfold.runtime.bench_measure import time_block
from bnfold.runtime.bench_statistics import FEWEST_BLOCKS, compare, median_interval
from models.networks import NETWORKS

ROOT = Path(__file__).parents[1]
OUTCOMES = Path(__file__).with_name("inference.json")
QUICK = ("resnet18", "mobilenet-v2")
LEVELS = {"default": ort.GraphOptimizationLevel.ORT_ENABLE_ALL, "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL}
_BLOCK_S = 0.15  # for each contestant


class Cell(NamedTuple):
    """One measurement."""

    network: str
    export: str
    level: str
    threads: int
    batch: int


def cells(networks: list[str], exports: list[str], grid: bool) -> Iterator[Cell]:
    """What to measure: every combination with `grid`, else one thread and batch 1."""
    runs = list(itertools.product((1, 2), (1, 8))) if grid else [(1, 1)]
    for network, export, level, (threads, batch) in itertools.product(networks, exports, LEVELS, runs):
        yield Cell(network, export, level, threads, batch)


def measure(cell: Cell, files: list[Contestant], blocks: int = FEWEST_BLOCKS) -> dict[str, Any]:
    """Latency and session creation of every contestant, against the original."""
    entries = [files[0], *files]  # the original twice: the control
    shape = (cell.batch, *NETWORKS[cell.network].shape)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float16 if cell.export == "float16" else np.float32)
    latency: dict[int, list[float]] = {position: [] for position in range(len(entries))}
    creation: dict[int, list[float]] = {position: [] for position in range(len(entries))}
    failures = {each.tool: each.failure for each in files if each.path is None}
    for block in range(blocks):
        runners, positions = [], []
        for position, each in enumerate(entries):
            if each.path is None or each.tool in failures:
                continue
            before = time.process_time()
            try:
                session = _session(each.path, cell)
                seconds = time.process_time() - before
                session.run(None, {NETWORKS[cell.network].input: values})
            except Exception as error:  # onnxruntime's exceptions have no common base of their own
                failures[each.tool] = f"does not run: {str(error).splitlines()[0][:150]}"
                continue
            creation[position].append(seconds)
            runners.append(_runner(session, NETWORKS[cell.network].input, values))
            positions.append(position)
        for position, found in zip(
            positions, time_block(runners, _BLOCK_S * len(runners), time.perf_counter, block), strict=True
        ):
            latency[position].append(found.median_s)
    original, control = latency[1], latency[0]
    rows = {}
    for position, each in enumerate(entries):
        if position == 0:
            continue
        if each.tool in failures:
            rows[each.tool] = {"failure": failures[each.tool]}
            continue
        assert each.path is not None
        told = compare(original, control, latency[position])
        rows[each.tool] = {
            "latency_ms": 1e3 * statistics.median(latency[position]),
            "ratio": 1 + told.change.median,
            "low": 1 + told.change.low,
            "high": 1 + told.change.high,
            "claim": told.claim,
            "creation_ratio": statistics.median(b / a for a, b in zip(creation[1], creation[position], strict=True)),
            "creation_cpu_ms": 1e3 * median_interval(creation[position]).median,
            "bytes": each.path.stat().st_size,
        }
    return {**cell._asdict(), "noise": compare(original, control, control).noise, "rows": rows}


def _session(path: Path, cell: Cell) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = cell.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = LEVELS[cell.level]
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _runner(session: ort.InferenceSession, name: str, values: np.ndarray) -> Any:
    return lambda: session.run(None, {name: values})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two networks, clean and raw, one thread, batch 1")
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="measure only this one (repeatable)")
    parser.add_argument("--export", action="append", choices=EXPORTS, help="measure only this export (repeatable)")
    parser.add_argument("--grid", action="store_true", help="1 and 2 threads, batch 1 and 8")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--python", type=Path, default=ROOT / "benchmarks" / ".venv" / "bin" / "python", help="of the peers")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / ".work", help="folder for the models")
    told = parser.parse_args()
    networks = told.network or list(QUICK if told.quick else NETWORKS)
    exports = told.export or list(EXPORTS[:2] if told.quick else EXPORTS)
    known = json.loads(OUTCOMES.read_text("utf-8"))["cells"] if OUTCOMES.exists() and not told.fresh else []
    done = {Cell(*(each[key] for key in Cell._fields)): each for each in known}
    for cell in cells(networks, exports, told.grid):
        if cell in done:
            continue
        files = contestants(cell.network, cell.export, told.work, told.python.absolute())
        done[cell] = measure(cell, files)
        shown = {tool: f"{row['ratio']:.3f}" if "ratio" in row else "–" for tool, row in done[cell]["rows"].items()}
        print(*cell, f"noise {done[cell]['noise']:.3f}", shown, flush=True)
        OUTCOMES.write_text(json.dumps({**facts(), "quick": told.quick, "cells": list(done.values())}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
