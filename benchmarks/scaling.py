"""How the cost of folding grows with the number of nodes, and what starting bnfold costs.

    python -m benchmarks.scaling [--quick] [--python PEERS/bin/python]

Every measurement is a whole process, in interleaved rounds. Outcomes go to scaling.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks import recorded
from benchmarks.machine import PEERS, PEERS_PYTHON, facts
from benchmarks.processes import CONTROL, ROOT, Job, bnfold, make, measure, python, workplace

_TIMEOUT_S = 120
_PEERS_AT_MOST = 50_000  # nodes; most have given up by then


def graphs(folder: Path, peers: Path, quick: bool) -> list[dict[str, Any]]:
    """Chains and shared tensors: processor time, against `onnx.load` and `onnx.save`."""
    cases = [("a chain of Conv and BatchNormalization", "chain", nodes) for nodes in (1000, 10_000, 50_000, 100_000)]
    cases += [("nothing to fold", "nothing_to_fold", 20_000)]
    cases += [("one weight, many Conv", "shared_weight", readers) for readers in (1000, 4000)]
    cases += [("one tensor, many Conv", "shared_tensor", readers) for readers in (1000, 4000)]
    found = []
    for name, maker, size in cases:
        source, target = folder / "model.onnx", folder / "out.onnx"
        make(maker, source, size // 10 if quick else size)
        jobs = {
            "onnx.load": Job(python("-c", f"import onnx; onnx.load({str(source)!r})")),
            "onnx.load + onnx.save": Job(
                python("-c", f"import onnx; onnx.save(onnx.load({str(source)!r}), {str(target)!r})"), (target,)
            ),
            "bnfold": bnfold(source, target),
            CONTROL: bnfold(source, target),
        }
        for tool in PEERS if maker == "chain" and size <= _PEERS_AT_MOST else ():
            jobs[tool] = Job((str(peers), str(ROOT / "benchmarks" / "peer.py"), tool, str(source), str(target)), (target,), 1)
        found.append(
            {
                "name": name,
                "size": size // 10 if quick else size,
                "tools": measure(jobs, 3 if quick else 7, 20 if quick else _TIMEOUT_S),
            }
        )
    return found


def starting(folder: Path, quick: bool) -> dict[str, Any]:
    """What it costs to start, and to fold a model so small that nothing else counts."""
    source, target = folder / "model.onnx", folder / "out.onnx"
    make("chain", source, 2)
    jobs = {
        "python -c pass": Job(python("-c", "pass")),
        "bnfold --help": Job(python("-m", "bnfold", "--help")),
        "import onnx": Job(python("-c", "import onnx")),
        "bnfold optimize, a tiny model": bnfold(source, target),
    }
    return measure(jobs, 7 if quick else 31)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the nodes, fewer rounds")
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="interpreter of the peers")
    told = parser.parse_args()
    known = facts(told.python)
    with workplace() as folder:
        measured = {"starting": starting(folder, told.quick), "graphs": graphs(folder, told.python, told.quick)}
    recorded.save("scaling.json", {**known, "quick": told.quick, **measured})


if __name__ == "__main__":
    main()
