"""Measures everything that `benchmarks/RESULTS.md` shows, and writes that page with its plots.

    python benchmarks/run.py [--quick] [--only SECTION,SECTION] [--minutes N] [--fresh] [--venv FOLDER] [--install]

The peers run in an environment of their own, which is made where there is none. With `--quick`, outcomes, page and plots go to
`benchmarks/.quick`. Inference goes on where it stopped; everything else is measured anew each time.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import recorded, results

ROOT = Path(__file__).resolve().parents[1]

SECTIONS = {
    "tool-cost": "benchmarks.tool_cost",
    "scaling": "benchmarks.scaling",
    "verification": "benchmarks.verification",
    "numerical": "benchmarks.numerical",
    "session-creation": "benchmarks.session_creation",
    "inference": "benchmarks.inference",
}
"""What can be measured, the longest last, and what does it: `python -m MODULE [--quick] [--python PEERS/bin/python]`."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller models and fewer rounds: minutes in place of hours")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas; none: only write the page")
    parser.add_argument("--minutes", type=float, help="of inference; run again to go on. Default: until all is measured")
    parser.add_argument("--fresh", action="store_true", help="make all models again, and begin inference anew")
    parser.add_argument("--venv", type=Path, default=ROOT / "benchmarks" / ".venv", help="environment of the peers")
    parser.add_argument("--install", action="store_true", help="make that environment anew, although it is there")
    told = parser.parse_args()
    names = [name for name in told.only.split(",") if name and name != "none"]
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        parser.error(f"unknown sections: {', '.join(unknown)}. There are {', '.join(SECTIONS)}.")
    missing = [name for name in ("matplotlib", *(["torch"] if names else [])) if find_spec(name) is None]
    if missing:
        parser.error(f"needs {' and '.join(missing)}: pip install '.[benchmarks]'")
    failed = measure(names, told)
    results.write(recorded.folder(told.quick))
    if failed:
        sys.exit(f"not measured, and the page shows what was recorded before: {', '.join(failed)}")


def measure(names: list[str], told: argparse.Namespace) -> list[str]:
    """Runs sections one after the other. Returns those that failed."""
    peers = told.venv.absolute() / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if told.install or (names and not peers.exists()):
        subprocess.run([sys.executable, ROOT / "benchmarks" / "patterns.py", "--install", "--venv", told.venv], check=True)
    if told.fresh:
        shutil.rmtree(ROOT / "benchmarks" / ".work", ignore_errors=True)
    failed = []
    for name in names:
        options = ["--python", str(peers), *(["--quick"] if told.quick else [])]
        if name == "inference":
            options += ["--fresh"] * told.fresh + ([] if told.minutes is None else ["--minutes", str(told.minutes)])
        done = subprocess.run([sys.executable, "-m", SECTIONS[name], *options], check=False, cwd=ROOT)
        failed += [name] if done.returncode else []
    return failed


if __name__ == "__main__":
    main()
