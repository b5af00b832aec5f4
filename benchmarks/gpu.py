"""Writes the figures of docs/gpu.md: the machine, verification across providers, and speed on an NVIDIA GPU.

    python -m benchmarks.gpu [--duration SECONDS] [MODEL.onnx ...]

Without models it takes those of models/. It stops with exit code 3, and writes nothing, where CUDA does not start.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import bnfold
from benchmarks.marks import replaced
from bnfold.report.bench_text import cells, sentence
from bnfold.report.markdown import table
from bnfold.runtime.environment import Environment, examine
from bnfold.runtime.providers import CPU, Target

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "gpu.md"
CUDA = Target("cuda")
TF32 = Target("cuda", {"use_tf32": "1"})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--duration", type=float, default=3.0, help="seconds of measuring for each setting")
    arguments = parser.parse_args()
    environment = examine()
    state = next((state for state in environment.providers if state.short == "cuda"), None)
    if state is None or not state.loads:
        reason = "this onnxruntime is built without it" if state is None or not state.compiled_in else state.missing
        print(f"CUDA does not start here: {reason}. Nothing was written.", file=sys.stderr)
        return bnfold.EnvironmentUnfit.exit_code
    models = arguments.models or sorted((ROOT / "models").glob("*.onnx"))
    write("\n".join(figures(environment, models, arguments.duration)))
    print(f"wrote the figures into {PAGE}")
    return 0


def figures(environment: Environment, models: list[Path], duration: float) -> Iterator[str]:
    """The lines of the section."""
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items() if version)
    yield f"Recorded on {date.today().isoformat()} with `python -m benchmarks.gpu`.\n"
    yield f"* {graphics_card()}"
    yield f"* {environment.platform}, {environment.cpu}, {environment.cores} logical CPUs"
    yield f"* {versions}\n"
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            folded = Path(folder) / model.name
            bnfold.optimize(model, folded)
            yield f"### {model.name}\n"
            yield "Original against folded, the largest difference of any output:\n"
            yield from table(("original on", "folded on", "max Δ", "verdict"), verifications(model, folded))
            benchmark = bnfold.bench(model, folded, target=CUDA, duration=duration)
            yield f"\nBatch {benchmark.batch}, inputs and outputs on the device, TF32 as onnxruntime has it by default:\n"
            rows = [
                (row.setting, role, *cells(benchmark, timing))
                for row in benchmark.rows
                for role, timing in (("original", row.original), ("folded", row.candidate))
                if timing is not None
            ]
            yield from table(("setting", "model", "latency ms", "95 % interval", "samples/s", "session ms", "nodes", "BN"), rows)
            yield ""
            yield from (f"* {row.setting}: {sentence(row)}" for row in benchmark.rows)
            yield ""


def verifications(model: Path, folded: Path) -> Iterator[tuple[str, str, str, str]]:
    """One row for each pair of providers."""
    for ours, theirs, names in ((CUDA, CUDA, ("CUDA", "CUDA")), (CPU, CUDA, ("CPU", "CUDA")), (CPU, TF32, ("CPU", "CUDA, TF32"))):
        found = bnfold.verify(model, folded, target=ours, candidate_target=theirs)
        largest = max((row.worst.max_abs_diff for row in found.outputs), default=float("nan"))
        yield *names, f"{largest:.2e}", "equivalent" if found.ok else "; ".join(found.failures)


def graphics_card() -> str:
    """What the driver says about the card."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "an NVIDIA GPU (nvidia-smi is not installed)"
    query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def write(text: str) -> None:
    """Replaces the section between the two marks, and the remark that there are no figures yet."""
    page = PAGE.read_text("utf-8")
    before, _, remark = page.partition("**No figures have been recorded yet.**")
    if remark:
        page = before + remark.partition("\n\n")[2]
    PAGE.write_text(replaced(page, "figures", text), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
