"""Measures what bnfold and five other tools do with each pattern of `pattern_rows.py`, and writes the tables of the docs.

    python benchmarks/patterns.py --install         make an environment with the pinned versions of all tools
    python benchmarks/patterns.py                   measure all tools, then write the tables
    python benchmarks/patterns.py --tool bnfold     measure one tool again, and keep what was measured of the others
    python benchmarks/patterns.py --render          only write the tables

Every tool runs offline and with its defaults, in a process that is started again when it dies. Outcomes go to
`benchmarks/patterns.json`; `docs/patterns.md` and the block of README.md between its `patterns` marks are written from that file
alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import select
import signal
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.marks import fill
from benchmarks.pattern_rows import GROUPS

PINNED = {"onnxruntime": "1.31.1", "onnxsim": "0.8.1", "onnxslim": "0.1.98", "onnxoptimizer": "0.4.2", "onnxscript": "0.7.2"}
TOOLS = ("bnfold", *PINNED)
SUPPORT = ("onnx==1.23.2", "onnx-graphsurgeon==0.6.1", "click>=8.1", "ml_dtypes>=0.5")
TIMEOUT_S = 120

ROOT = Path(__file__).resolve().parents[1]
OUTCOMES = ROOT / "benchmarks" / "patterns.json"
TABLE = ROOT / "docs" / "patterns.md"
README = ROOT / "README.md"
MARK = "patterns"

SYMBOLS = {"folds": "✔", "keeps": "·", "wrong": "**✘**", "invalid": "**!**", "crashes": "**†**", "errors": "**e**"}
LEGEND = (
    "✔ folds: no BatchNormalization and no arithmetic of it is left, and the result is right",
    "· keeps: something of it is left, and the result is right",
    "**✘** wrong: the result differs by more than rounding, or no longer takes what the caller could feed",
    "**!** the result does not load, or does not run",
    "**†** the tool dies, or takes more than two minutes",
    "**e** the tool stops with an error",
)

INTRODUCTION = """What each tool does with {count} small models, by its defaults, offline. onnxruntime stands for its optimized
model as it saves it at its default level, onnxscript for its optimizer followed by its default rewrite rules, which fold
BatchNormalization. Every result was run with all optimizations of onnxruntime disabled and compared with the original, run the
same way; the few patterns for which onnxruntime has no CPU kernel were run by a float64 evaluator. Rows on which bnfold does
worse than another tool are here like all others.

The patterns were chosen by the authors of bnfold, from what exporters write and users report. They show what a tool can do, not
how often a model asks for it: the first group is what most models are made of.

Arithmetic on constants does not count, since a runtime computes it once: onnxoptimizer leaves the folded weights as such. Another
operator in the normalization's place does count: onnxruntime turns some normalizations into depthwise convolutions."""

LEAD = """{count} patterns, each tool with its defaults: folds / keeps / wrong, and +n where it stopped with an error, died, or
wrote a model that does not run. In the last group keeping is right. Measured by `benchmarks/patterns.py`;
[docs/patterns.md](docs/patterns.md) has every row."""


# -- measuring --------------------------------------------------------------------------------------------------------


def install(folder: Path) -> None:
    """Makes a virtual environment with the pinned tools and what bnfold needs; bnfold itself runs from the working tree."""
    venv.create(folder, with_pip=True, clear=True)
    pins = [f"{tool}=={version}" for tool, version in PINNED.items()]
    subprocess.run([_python(folder), "-m", "pip", "install", "--quiet", *SUPPORT, *pins], check=True)


def measure(python: Path, tools: list[str]) -> dict[str, Any]:
    """Outcomes of these tools on all patterns, with those of the other tools as they were recorded."""
    recorded: dict[str, Any] = json.loads(OUTCOMES.read_text("utf-8")) if OUTCOMES.exists() else {"versions": {}, "groups": {}}
    groups = {
        title: {row.name: recorded["groups"].get(title, {}).get(row.name, {}) for row in rows} for title, rows in GROUPS.items()
    }
    for tool in tools:
        for title, name, outcome in _outcomes(python, tool):
            groups[title][name] = {**groups[title][name], tool: outcome}
    unmeasured = {tool for rows in groups.values() for row in rows.values() for tool in TOOLS if tool not in row}
    if unmeasured:
        raise SystemExit(f"some patterns have not been measured with {', '.join(sorted(unmeasured))}: leave out --tool")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": _machine(),
        "python": _say(python, "import platform; print(platform.python_version())"),
        "versions": {**recorded["versions"], **{tool: _version(python, tool) for tool in ("onnx", *tools)}},
        "groups": {
            title: {name: {tool: row[tool] for tool in TOOLS} for name, row in rows.items()} for title, rows in groups.items()
        },
    }


def _outcomes(python: Path, tool: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    process: subprocess.Popen[bytes] | None = None
    for title, rows in GROUPS.items():
        for row in rows:
            process = process or _start(python, tool)
            answer = _ask(process, title, row.name)
            if not answer:
                yield title, row.name, {"outcome": "crashes", "detail": _cause_of_death(process)}
                process = None
            else:
                yield title, row.name, json.loads(answer)
    if process is not None:
        process.kill()
        process.wait()


def _start(python: Path, tool: str) -> subprocess.Popen[bytes]:
    command = [str(python), "-m", "benchmarks.pattern_tools", tool]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, bufsize=0)


def _ask(process: subprocess.Popen[bytes], title: str, name: str) -> bytes:
    """One line of answer; nothing when the process dies or takes too long."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([title, name]).encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], TIMEOUT_S)
        piece = process.stdout.read(65536) if ready else b""
        if not piece:
            return b""
        answer += piece
    return answer


def _cause_of_death(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"no answer in {TIMEOUT_S} s"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _version(python: Path, package: str) -> str:
    if package == "bnfold":  # not installed there
        return _say(python, "import bnfold; print(bnfold.__version__)")
    return _say(python, f"import importlib.metadata as m; print(m.version('{package}'))")


def _say(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _machine() -> str:
    """The processor's model and the system, without the host's name."""
    processor = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = named[0] if named else processor
    return f"{processor}, {platform.system()}"


# -- rendering --------------------------------------------------------------------------------------------------------


def table(measured: dict[str, Any]) -> str:
    """The page `docs/patterns.md`."""
    count = sum(len(rows) for rows in measured["groups"].values())
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    lines = [
        "# Patterns",
        "",
        "<!-- written by benchmarks/patterns.py from benchmarks/patterns.json: do not edit -->",
        "",
        INTRODUCTION.format(count=count),
        "",
        *(f"* {each}" for each in LEGEND),
        "",
        f"Measured {measured['date']} with {versions}, Python {measured['python']} on {measured['machine']}.",
        "",
        "Folds / keeps / wrong (+n: stopped with an error, died, or wrote a model that does not run):",
        "",
        *_summary(measured),
        "",
    ]
    for title, rows in measured["groups"].items():
        lines += [f"## {title}", "", *_grid(["pattern", *TOOLS])]
        lines += [_row([name, *(SYMBOLS[row[tool]["outcome"]] for tool in TOOLS)]) for name, row in rows.items()]
        lines += [""]
    lines += [
        "## Why: wrong results, crashes and errors",
        "",
        *_grid(["tool", "pattern", "outcome", "what was seen"]),
        *_failures(measured),
        "",
    ]
    return "\n".join(lines)


def block(measured: dict[str, Any]) -> str:
    """What stands between the marks in README.md."""
    count = sum(len(rows) for rows in measured["groups"].values())
    lead = LEAD.format(count=count)
    return "\n".join([lead, "", *_summary(measured)])


def _summary(measured: dict[str, Any]) -> Iterator[str]:
    groups: dict[str, list[Any]] = {title: list(rows.values()) for title, rows in measured["groups"].items()}
    *foldable, traps = groups
    yield from _grid(["group", *TOOLS])
    yield from (_row([f"{title} ({len(groups[title])})", *_cells(groups[title])]) for title in foldable)
    every = [row for title in foldable for row in groups[title]]
    yield _row([f"**All that can be folded ({len(every)})**", *(f"**{cell}**" for cell in _cells(every))])
    yield _row([f"{traps} ({len(groups[traps])})", *_cells(groups[traps])])


def _cells(rows: list[Any]) -> Iterator[str]:
    for tool in TOOLS:
        counts = Counter(row[tool]["outcome"] for row in rows)
        failed = counts["invalid"] + counts["crashes"] + counts["errors"]
        yield f"{counts['folds']} / {counts['keeps']} / {counts['wrong']}" + (f" +{failed}" if failed else "")


def _failures(measured: dict[str, Any]) -> Iterator[str]:
    for tool in TOOLS:
        for title, rows in measured["groups"].items():
            for name, row in rows.items():
                outcome, detail = row[tool]["outcome"], row[tool]["detail"]
                if outcome not in ("folds", "keeps"):
                    yield _row([tool, f"{title.partition(':')[0]}: {name}", outcome, detail.replace("|", "\\|")])


def _grid(titles: list[str]) -> Iterator[str]:
    yield _row(titles)
    yield _row(["---"] + [":-:" if title in TOOLS else "---" for title in titles[1:]])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def render(measured: dict[str, Any]) -> None:
    """Writes the page and the block of README.md, and prints the block."""
    TABLE.write_text(table(measured), "utf-8")
    fill(README, MARK, block(measured))
    print(block(measured))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=ROOT / "benchmarks" / ".venv", help="environment of the tools")
    parser.add_argument("--install", action="store_true", help="make that environment, and stop")
    parser.add_argument("--tool", action="append", choices=TOOLS, help="measure only this tool again (repeatable)")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    told = parser.parse_args()
    if told.install:
        install(told.venv)
        return
    if not told.render:
        measured = measure(_python(told.venv.absolute()), told.tool or list(TOOLS))
        OUTCOMES.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", "utf-8")
    render(json.loads(OUTCOMES.read_text("utf-8")))


if __name__ == "__main__":
    main()
