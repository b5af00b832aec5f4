"""Whole processes, measured from outside: wall time, processor time and peak memory, in interleaved rounds."""

from __future__ import annotations

import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REPORTED_S = 3  # after what was written is gone; Linux tells the host of free memory after two (mm/page_reporting.c)
_MOST_TAKEN = 0.9  # of what is free
_POPULATED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)
ROOT = Path(__file__).resolve().parents[1]
CONTROL = "bnfold, again"
"""The same job as "bnfold" once more, in the same rounds: how far the two lie apart is noise."""


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes:
        command: its arguments.
        written: what it writes; removed before every run, so that none pays for what another left.
        rounds: how often at most; None for as often as the others.
        memory: bytes that another process takes and gives back just before, as far as they are free. A virtual machine may return
            memory that lies idle to its host, and to get it back takes longer than to fill it: whoever comes after a pause would
            pay for that.
    """

    command: tuple[str, ...]
    written: tuple[Path, ...] = ()
    rounds: int | None = None
    memory: int = 0


@dataclass(frozen=True)
class Sample:
    """One run: seconds by the clock, seconds of processor time, peak resident memory in bytes, and why it is none."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    failure: str = ""


def measure(jobs: Mapping[str, Job], rounds: int, timeout_s: float = 180) -> dict[str, dict[str, Any]]:
    """Medians over interleaved rounds, each in another order, after one that does not count; what fails is not run again.

    Returns:
        name → `wall_s`, `cpu_s`, `peak_mb`, `runs`, and `spread` and `cpu_spread`, the interquartile ranges of both times over
        their medians; or `failure`.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        names = list(jobs)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seen = samples[name]
            enough = len(seen) > (jobs[name].rounds or rounds)
            if not enough and not any(each.failure for each in seen):
                seen.append(run(jobs[name], timeout_s))
    return {name: _summary(found) for name, found in samples.items()}


def run(job: Job, timeout_s: float) -> Sample:
    """Runs one process. `os.wait4` says what it alone has used; what it prints is kept only to say why it failed."""
    for path in job.written:
        path.unlink(missing_ok=True)
    if job.memory:
        time.sleep(_REPORTED_S)
        taken = min(job.memory, int(_MOST_TAKEN * os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE))
        subprocess.run(python("-c", f"import mmap; mmap.mmap(-1, {taken}, flags={_POPULATED})"), check=True)
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(job.command, stdout=log, stderr=log, env=_environment(), cwd=ROOT)
        patience = threading.Timer(timeout_s, process.kill)
        patience.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        patience.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
    failure = ""
    if wall_s > timeout_s:
        failure = f"more than {timeout_s:.0f} s"
    elif process.returncode:
        failure = f"died of signal {-process.returncode}" if process.returncode < 0 else (lines or ["failed"])[-1][:160]
    return Sample(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, failure)


def _summary(samples: list[Sample]) -> dict[str, Any]:
    failed = next((each for each in samples if each.failure), None)
    if failed is not None:
        return {"failure": failed.failure, "peak_mb": failed.peak_bytes / 1e6}
    counted = samples[1:] or samples
    walls, cpus = [each.wall_s for each in counted], [each.cpu_s for each in counted]
    return {
        "wall_s": statistics.median(walls),
        "cpu_s": statistics.median(cpus),
        "peak_mb": max(each.peak_bytes for each in counted) / 1e6,
        "runs": len(counted),
        "spread": _spread(walls),
        "cpu_spread": _spread(cpus),
    }


def _spread(seconds: list[float]) -> float:
    """The interquartile range over the median."""
    ordered = sorted(seconds)
    return (ordered[(3 * len(ordered)) // 4] - ordered[len(ordered) // 4]) / statistics.median(ordered)


def _environment() -> dict[str, str]:
    """As an installed package runs: from compiled files."""
    mine = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")}
    return {**mine, "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "bnfold-benchmarks-pyc"), "PYTHONPATH": str(ROOT)}


def python(*arguments: object) -> tuple[str, ...]:
    """A command of this interpreter."""
    return (sys.executable, *map(str, arguments))


def bnfold(source: Path, target: Path) -> Job:
    """`bnfold optimize --no-verify`."""
    written = (target, target.with_name(f"{target.name}.data"))
    return Job(python("-m", "bnfold", "optimize", source, "-o", target, "--no-verify", "--quiet"), written)


def make(function: str, *arguments: object) -> None:
    """Calls a function of `benchmarks.cost_models` in a process of its own: what was large here once would count for children."""
    words = ", ".join(f"Path({str(each)!r})" if isinstance(each, Path) else repr(each) for each in arguments)
    code = f"from pathlib import Path; from benchmarks import cost_models; cost_models.{function}({words})"
    subprocess.run(python("-c", code), check=True, cwd=ROOT)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for large files, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bnfold-benchmarks-") as folder:
        yield Path(folder)
