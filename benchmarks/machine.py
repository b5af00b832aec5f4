"""The machine, the versions and the date that figures belong to."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "onnx", "onnxruntime", "torch")
PEERS_PYTHON = Path(__file__).with_name(".venv") / "bin" / "python"
PEERS = ("onnxruntime", "onnxsim", "onnxslim", "onnxoptimizer", "onnxscript")


def facts(peers: Path | None = None) -> dict[str, Any]:
    """Date, machine and versions, as they stand at the head of a page of figures.

    Args:
        peers: the interpreter of the peers' environment, where its versions belong to the figures.
    """
    known: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES if _is_installed(name)},
    }
    if peers is not None:
        code = f"import json; from importlib.metadata import version; print(json.dumps({{n: version(n) for n in {PEERS}}}))"
        known["peers"] = json.loads(subprocess.run([peers, "-c", code], check=True, capture_output=True, text=True).stdout)
    return known


def machine() -> str:
    """The processor, how many cores of it this process may use, and the memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ", ".join((_processor(), f"{cores} {'core' if cores == 1 else 'cores'}", *_memory(), platform.system()))


def _memory() -> tuple[str, ...]:
    if not hasattr(os, "sysconf"):
        return ()
    return (f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB of memory",)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
