"""What creating a session of the folded files costs: processor time of original, bnfold, its peers, and the ideal.

    python -m benchmarks.session_creation [--quick] [--network NAME]... [--python PEERS/bin/python]

Each session is created in a process of its own, forked from one in which onnxruntime is loaded and has created none. Sessions
that live side by side, or follow each other in one process, find memory that another has left or must ask for more, as their
place in the order has it. The order turns with every round, and the original takes part twice.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks import recorded
from benchmarks.cells import CONTROL, FIRST, LEVELS
from benchmarks.contestants import EXPORTS, Contestant, contestants
from benchmarks.machine import PEERS_PYTHON, facts
from benchmarks.sessions import creation_s
from bnfold.runtime.bench_statistics import compare
from models.networks import NETWORKS

ROOT = Path(__file__).parents[1]
NAME = "session_creation.json"
_ROUNDS = 9

Create = Callable[[Path, str], float | str]
"""Creates a session of a file at a level: processor seconds, or why there is none."""


def copies(files: list[Contestant], folder: Path) -> dict[str, Path]:
    """Every file there is once more, and the original twice, all written in the same way.

    How fast a file is read depends on how it was written, also where it holds the same bytes.
    """
    sources = {CONTROL: files[0].path, **{each.tool: each.path for each in files}}
    return {tool: shutil.copyfile(source, folder / f"{tool}.onnx") for tool, source in sources.items() if source is not None}


def measure(files: list[Contestant], paths: dict[str, Path], level: str, create: Create, rounds: int = _ROUNDS) -> dict[str, Any]:
    """Every contestant's session against the original's, in rounds of one each. The first round is not counted.

    Args:
        files: the contestants, for those that have no file.
        paths: the files of the others and of the control.
        level: one of `benchmarks.cells.LEVELS`.
        create: creates one session.
        rounds: how many count.
    """
    rows: dict[str, Any] = {each.tool: {"failure": each.failure} for each in files}
    order, seconds = deque(paths), {tool: list[float]() for tool in paths}
    for turn in range(rounds + 1):
        for tool in list(order):
            taken = create(paths[tool], level)
            if isinstance(taken, str):
                rows[tool] = {"failure": taken}
                order.remove(tool)
            elif turn:
                seconds[tool].append(taken)
        order.rotate(-1)
    if "original" not in order:
        return {"failure": rows["original"]["failure"], "rows": {}}
    against = partial(compare, seconds["original"], seconds[CONTROL])
    for tool in rows.keys() & set(order):
        told = against(seconds[tool])
        rows[tool] = {
            "cpu_ms": 1e3 * statistics.median(seconds[tool]),
            "ratio": 1 + told.change.median,
            "claim": told.claim,
            "bytes": paths[tool].stat().st_size,
        }
    return {"rounds": rounds, "noise": against(seconds[CONTROL]).noise, "rows": rows}


@contextmanager
def processes() -> Iterator[Create]:
    """Creates each session in a process of its own."""
    context = get_context("forkserver")
    context.set_forkserver_preload([Contestant.__module__, creation_s.__module__])  # else each process imports PyTorch anew
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        yield lambda path, level: pool.submit(creation_s, path, level).result()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two networks")
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="measure only this one (repeatable)")
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="interpreter of the peers")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / ".work", help="folder for the models")
    parser.add_argument("--remark", default="", help="what else is to be known of these measurements; shown on the page")
    told = parser.parse_args()
    torch.set_num_threads(1)  # so that networks come out the same whatever this process may use
    known, peers = facts(told.python), told.python.absolute()
    measured: list[dict[str, Any]] = []
    with processes() as create:
        for network, export in itertools.product(told.network or (FIRST if told.quick else NETWORKS), EXPORTS):
            files = contestants(network, export, told.work, peers)
            with TemporaryDirectory(dir=told.work) as folder:
                paths = copies(files, Path(folder))
                found = [{"level": level, **measure(files, paths, level, create)} for level in LEVELS]
            measured += [{"network": network, "export": export, **cell} for cell in found]
            for cell in found:
                shown = {tool: f"{row['ratio']:.3f}" if "ratio" in row else "–" for tool, row in cell["rows"].items()}
                print(network, export, cell["level"], f"noise {cell.get('noise', 0):.3f}", shown, flush=True)
    quick = told.quick or told.network is not None
    recorded.save(NAME, {**known, "remark": told.remark, "quick": quick, "cells": measured})


if __name__ == "__main__":
    main()
