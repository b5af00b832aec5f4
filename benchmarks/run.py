"""Measures everything that `benchmarks/RESULTS.md` shows, and writes that page.

    python benchmarks/run.py [--quick] [--only SECTION,SECTION] [--venv FOLDER] [--install]

The peers run in an environment of their own, which `--install` makes once (as `benchmarks/patterns.py --install` does).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results

ROOT = Path(__file__).resolve().parents[1]

SECTIONS = {
    "tool-cost": "benchmarks.tool_cost",
    "scaling": "benchmarks.scaling",
    "inference": "benchmarks.inference",
    "numerical": "benchmarks.numerical",
}
"""What can be measured, by the module that does it: `python -m MODULE [--quick] [--python PEERS/bin/python]`."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller models and fewer rounds: minutes in place of hours")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas; none: only write the page")
    parser.add_argument("--venv", type=Path, default=ROOT / "benchmarks" / ".venv", help="environment of the peers")
    parser.add_argument("--install", action="store_true", help="make that environment first")
    told = parser.parse_args()
    names = [name for name in told.only.split(",") if name and name != "none"]
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        parser.error(f"unknown sections: {', '.join(unknown)}. There are {', '.join(SECTIONS)}.")
    if told.install:
        subprocess.run([sys.executable, ROOT / "benchmarks" / "patterns.py", "--install", "--venv", told.venv], check=True)
    peers = told.venv.absolute() / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if names and not peers.exists():
        parser.error(f"{peers} does not exist: use --install, or --venv.")
    for name in names:
        options = ["--python", str(peers), *(["--quick"] if told.quick else [])]
        subprocess.run([sys.executable, "-m", SECTIONS[name], *options], check=True, cwd=ROOT)
    results.write()


if __name__ == "__main__":
    main()
