"""What verification costs, and that its budget bounds it: ResNet-50, folded with and without it.

    python -m benchmarks.verification [--quick] [--python PEERS/bin/python]

Each run is a whole process; how long its verification took is what its report says. Outcomes go to verification.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import recorded
from benchmarks.machine import PEERS_PYTHON, facts
from benchmarks.processes import ROOT, Job, Sample, bnfold, python, run, workplace

NETWORK = "resnet50"
BUDGETS_S = (0, 3, 10, 30)
_TIMEOUT_S = 600


def outcome(source: Path, folder: Path, budget_s: int | None, rounds: int) -> dict[str, Any]:
    """Medians of one budget; None is without verification."""
    target, report = folder / "out.onnx", folder / "report.json"
    job = bnfold(source, target)
    if budget_s is not None:
        options = ("--verify-budget", budget_s, "--report", report, "--quiet")
        job = Job(python("-m", "bnfold", "optimize", source, "-o", target, *options), (target, report))
    samples: list[Sample] = []
    shares = []
    for _ in range(rounds):
        samples.append(run(job, _TIMEOUT_S))
        if samples[-1].failure:
            return {"budget_s": budget_s, "failure": samples[-1].failure}
        if budget_s is not None:
            shares.append(json.loads(report.read_text("utf-8"))["verification"]["elapsed_s"])
    walls = [each.wall_s for each in samples]
    return {
        "budget_s": budget_s,
        "wall_s": statistics.median(walls),
        "verification_s": statistics.median(shares) if shares else 0.0,
        "peak_mb": max(each.peak_bytes for each in samples) / 1e6,
        "low_s": min(walls),
        "high_s": max(walls),
        "runs": rounds,
    }


def exported(work: Path, peers: Path, small: bool) -> Path:
    """The network as inference measures it, made by another process: PyTorch would count as memory of all children."""
    code = (
        "import torch; torch.set_num_threads(1); from pathlib import Path; from benchmarks.contestants import contestants; "
        f"print(contestants({NETWORK!r}, 'clean', Path({str(work)!r}), Path({str(peers)!r}), {small})[0].path)"
    )
    made = subprocess.run(python("-c", code), check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return Path(made.stdout.splitlines()[-1])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the network at the size for tests, once")
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="interpreter of the peers")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / ".work", help="folder for the models")
    told = parser.parse_args()
    source = exported(told.work, told.python.absolute(), told.quick)
    with workplace() as folder:
        rows = [outcome(source, folder, budget_s, 1 if told.quick else 3) for budget_s in (None, *BUDGETS_S)]
    known = {**facts(), "quick": told.quick, "network": NETWORK, "bytes": source.stat().st_size}
    recorded.save("verification.json", {**known, "rows": rows})


if __name__ == "__main__":
    main()
