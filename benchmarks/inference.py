"""How fast the folded models run in onnxruntime: original, bnfold, its peers, and an ideal folded by hand in PyTorch.

    python -m benchmarks.inference [--quick] [--minutes N] [--network NAME]... [--python PEERS/bin/python]

All contestants of a cell run interleaved in one process, in blocks with fresh sessions, with a second session of the original
as control; `bnfold.runtime.bench_statistics` says what may be claimed. The order in which sessions are created turns from block
to block, since one can be slower for being created last. The order of cells is that of
`benchmarks.cells.planned`. A cell that is in inference.json already is not measured again unless --fresh is given, so the whole
can be measured in parts.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import time
from collections import defaultdict, deque
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from benchmarks import cells, recorded
from benchmarks.cells import CONTROL, Cell
from benchmarks.contestants import EXPORTS, Contestant, contestants
from benchmarks.machine import PEERS_PYTHON, facts
from benchmarks.sessions import does_not_run, session
from bnfold.runtime.bench_measure import PAUSE_S, TURN_S, Runner, time_block
from bnfold.runtime.bench_statistics import FEWEST_BLOCKS, compare
from models.networks import NETWORKS

ROOT = Path(__file__).parents[1]
NAME = "inference.json"
_RUNS = 3
_LONGEST_BLOCK_S = 3.0
"""For all contestants together, warm-up aside. Where three runs of each take longer there are fewer, down to one; how far that
can be trusted is what the control shows."""


def measure(cell: Cell, files: list[Contestant], blocks: int = FEWEST_BLOCKS) -> dict[str, Any]:
    """Latency of every contestant, against the original."""
    started = time.monotonic()
    failures = {each.tool: each.failure for each in files if each.path is None}
    paths = {each.tool: each.path for each in (Contestant(CONTROL, files[0].path), *files) if each.path is not None}
    values = _values(cell)
    latency: dict[str, list[float]] = defaultdict(list)
    first_s: dict[str, float] = {}
    order = deque(paths)
    fewest = sys.maxsize
    for block in range(blocks):
        runners: dict[str, Runner] = {}
        for tool in order:
            try:
                runners[tool] = _runner(session(paths[tool], cell.level, cell.threads), NETWORKS[cell.network].input, values)
                if block == 0:
                    first_s[tool] = _seconds(runners[tool])
            except Exception as error:  # onnxruntime's exceptions have no common base of their own
                failures[tool] = does_not_run(paths[tool], error)
                runners.pop(tool, None)
        order = deque(runners)
        if "original" not in runners:
            return {**cell._asdict(), **_when(started), "failure": failures["original"], "rows": {}}
        budget_s = _block_s([first_s[tool] for tool in runners])
        samples = time_block(list(runners.values()), budget_s, time.perf_counter, lambda: time.sleep(PAUSE_S))
        for tool, found in zip(runners, samples, strict=True):
            latency[tool].append(found.median_s)
            fewest = min(fewest, found.runs)
        order.rotate(-1)
    rows: dict[str, Any] = {}
    for tool in (each.tool for each in files):
        if tool in failures:
            rows[tool] = {"failure": failures[tool]}
        else:
            told = compare(latency["original"], latency[CONTROL], latency[tool])
            rows[tool] = {
                "latency_ms": 1e3 * statistics.median(latency[tool]),
                "ratio": 1 + told.change.median,
                "low": 1 + told.change.low,
                "high": 1 + told.change.high,
                "claim": told.claim,
            }
    return {
        **cell._asdict(),
        **_when(started),
        "blocks": blocks,
        "runs": fewest,
        "noise": compare(latency["original"], latency[CONTROL], latency[CONTROL]).noise,
        "rows": rows,
    }


def _block_s(first_s: list[float]) -> float:
    """How long a block is: one turn of each, or as many as runs are wanted where a turn has room for fewer; at most the limit."""
    turns = 1 if max(first_s) < TURN_S / (_RUNS + 1) else _RUNS
    return min(turns * sum(TURN_S + each for each in first_s), _LONGEST_BLOCK_S)


def _when(started: float) -> dict[str, Any]:
    return {"date": datetime.date.today().isoformat(), "seconds": round(time.monotonic() - started, 1)}


def _values(cell: Cell) -> np.ndarray:
    shape = (cell.batch, *NETWORKS[cell.network].shape)
    values = np.random.default_rng(0).standard_normal(shape)
    return values.astype(np.float16 if cell.export == "float16" else np.float32)


def _runner(opened: ort.InferenceSession, name: str, values: np.ndarray) -> Runner:
    return lambda: opened.run(None, {name: values})


def _seconds(run: Runner) -> float:
    before = time.perf_counter()
    run()
    return time.perf_counter() - before


def _known(known: dict[str, Any], quick: bool, again: Container[Cell]) -> dict[Cell, dict[str, Any]]:
    """What is there already, but for the cells in `again`; of the same machine and versions, as one table must be."""
    path = recorded.folder(quick) / NAME
    document = recorded.load(path) if path.exists() else {"cells": []}
    kept = {cells.of(each): each for each in document["cells"] if cells.of(each) not in again}
    differing = [key for key in known if key != "date" and document.get(key) != known[key]]
    if kept and differing:
        sys.exit(f"{path} comes from another {', '.join(differing)}: use --fresh to measure all of it again.")
    return kept


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two networks, clean and raw, one thread, batch 1")
    parser.add_argument("--minutes", type=float, help="begin no other cell after this time")
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="measure only this one (repeatable)")
    parser.add_argument("--export", action="append", choices=EXPORTS, help="measure only this export (repeatable)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="interpreter of the peers")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / ".work", help="folder for the models")
    parser.add_argument("--remark", default="", help="what else is to be known of these measurements; shown on the page")
    told = parser.parse_args()
    torch.set_num_threads(1)  # so that networks come out the same whatever this process may use
    peers = told.python.absolute()
    known = facts(peers)
    plan: dict[str, Any] = {"networks": list(NETWORKS), "exports": list(EXPORTS), "runs": [list(each) for each in cells.RUNS]}
    if told.quick:
        plan = {"networks": list(cells.FIRST), "exports": list(EXPORTS[:2]), "runs": [list(cells.RUNS[0])]}
    chosen = [
        cell
        for cell in cells.planned(**plan)
        if cell.network in (told.network or plan["networks"]) and cell.export in (told.export or plan["exports"])
    ]
    done = _known(known, told.quick, chosen if told.fresh else ())
    for cell in cells.within((each for each in chosen if each not in done), told.minutes):
        files = contestants(cell.network, cell.export, told.work, peers)
        done[cell] = found = measure(cell, files)
        shown = {tool: f"{row['ratio']:.3f}" if "ratio" in row else "–" for tool, row in found["rows"].items()}
        print(*cell, f"{found['seconds']:.0f} s, noise {found.get('noise', 0):.3f}", shown, flush=True)
        measured = [done[each] for each in cells.planned(**plan) if each in done]
        recorded.save(NAME, {**known, "remark": told.remark, "quick": told.quick, "planned": plan, "cells": measured})
    print(f"{sum(cell in done for cell in chosen)} of {len(chosen)} cells are measured", flush=True)


if __name__ == "__main__":
    main()
