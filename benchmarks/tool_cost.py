"""What folding a large file costs, against copying it and against the peers: time, processor time and peak memory.

    python -m benchmarks.tool_cost [--quick] [--python PEERS/bin/python]

Every tool is a process of its own, started in interleaved rounds on the same file, whose pages are cached; the medians count.
Outcomes go to tool_cost.json.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import recorded
from benchmarks.machine import PEERS, PEERS_PYTHON, facts
from benchmarks.processes import CONTROL, ROOT, Job, bnfold, make, measure, workplace

LAYER_BYTES = 37_765_120
_TIMEOUT_S = 180
_TIMES_TAKEN = 4
"""Of a file's size, the memory that is taken before each run: what is read, what is written, and as much again. With half of
it, the interquartile range of `cp` at 3 GB was 8% of its median in one run and 34% in another; with all of it, 2% in two."""


@dataclass(frozen=True)
class Case:
    """One file and its targets: times of `cp`, and MB at the peak."""

    name: str
    maker: str
    layers: int
    times_of_cp: float
    peak_mb: float = 200


CASES = (
    Case("1 GB, external data", "external_convs", 28, 2.0),
    Case("3 GB, external data", "external_convs", 84, 1.5),
    Case("1 GB in one file", "inline_convs", 28, 2.5),
)


def outcome(case: Case, folder: Path, peers: Path, quick: bool) -> dict[str, Any]:
    """Measures one case."""
    source, target = folder / "model.onnx", folder / "out.onnx"
    data = source.with_name("model.onnx.data")
    make(case.maker, source, case.layers // 7 if quick else case.layers)
    written = (target, target.with_name("out.onnx.data"))
    copied = data if data.exists() else source
    jobs = {
        "cp": Job(("cp", str(copied), str(written[1])), written),
        "bnfold": bnfold(source, target),
        CONTROL: bnfold(source, target),
    }
    for tool in ("onnx.load + onnx.save", *PEERS):
        command = (str(peers), str(ROOT / "benchmarks" / "peer.py"), tool, str(source), str(target))
        jobs[tool] = Job(command, written, 1 if quick else 3)
    size = sum(path.stat().st_size for path in (source, data) if path.exists())
    settled = {name: replace(job, memory=_TIMES_TAKEN * size) for name, job in jobs.items()}
    found = measure(settled, 5 if quick else 11, _TIMEOUT_S)
    for path in (source, data, *written):
        path.unlink(missing_ok=True)
    return {
        "name": case.name,
        "bytes": size,
        "target": {"times_of_cp": case.times_of_cp, "peak_mb": case.peak_mb},
        "tools": found,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="files of a seventh of the size, fewer rounds")
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="interpreter of the peers")
    told = parser.parse_args()
    known = facts(told.python)
    with workplace() as folder:
        cases = [outcome(case, folder, told.python, told.quick) for case in CASES]
    recorded.save("tool_cost.json", {**known, "quick": told.quick, "cases": cases})


if __name__ == "__main__":
    main()
