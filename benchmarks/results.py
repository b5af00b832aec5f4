"""Writes the page of results, its plots and the block of README.md from what the benchmarks have recorded in JSON files.

    python benchmarks/results.py

A section is a function from the recorded document to lines of Markdown; one whose file is not there is left out.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import headlines, recorded
from benchmarks.cost_results import (
    scaling,
    scaling_targets,
    tool_cost,
    tool_cost_targets,
    verification,
    verification_targets,
)
from benchmarks.creation_results import creation, creation_targets
from benchmarks.inference_results import inference, inference_targets
from benchmarks.markdown import Target, grid, row
from benchmarks.marks import fill
from benchmarks.numerical_results import numerical

PAGE = "RESULTS.md"
README = recorded.FULL.parent / "README.md"
PLOTS = "plots"


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        title: its heading.
        recorded: the name of the JSON file.
        command: what measures it, an argument of `run.py --only`.
        lines: makes Markdown of what was recorded.
        plots: name → what is to be seen; `benchmarks.plots` has a function for each.
        targets: makes the rows of the summary.
    """

    title: str
    recorded: str
    command: str
    lines: Callable[[dict[str, Any]], Iterable[str]]
    plots: dict[str, str]
    targets: Callable[[dict[str, Any]], Iterable[Target]] = lambda _: ()


SECTIONS = (
    Section(
        "Tool cost",
        "tool_cost.json",
        "tool-cost",
        tool_cost,
        {"tool_cost": "Time and peak memory of folding large files, by tool, on logarithmic scales."},
        tool_cost_targets,
    ),
    Section("Verification", "verification.json", "verification", verification, {}, verification_targets),
    Section(
        "Scaling",
        "scaling.json",
        "scaling",
        scaling,
        {"scaling": "Processor time against the number of nodes, by tool, on logarithmic scales, and where tools fail."},
        scaling_targets,
    ),
    Section(
        "Inference",
        "inference.json",
        "inference",
        inference,
        {"inference": "Latency relative to the original, one thread, batch 1, by network, export and level, with the noise."},
        inference_targets,
    ),
    Section(
        "Session creation",
        "session_creation.json",
        "session-creation",
        creation,
        {"session_creation": "Processor time to create a session, relative to the original, by network, export and level."},
        creation_targets,
    ),
    Section(
        "Numerical error",
        "numerical.json",
        "numerical",
        numerical,
        {"numerical": "Largest distance of a folded weight from the exact one, in units in the last place, by network and tool."},
    ),
)


def page(home: Path) -> str:
    """The page as Markdown, from the outcomes in a folder."""
    sections = [(section, recorded.load(home / section.recorded)) for section in SECTIONS if (home / section.recorded).exists()]
    lines = [
        "# Results",
        "",
        "Written by `python benchmarks/run.py`; how each is measured stands in its script. Targets that are missed, and rows in",
        "which bnfold loses, stay in.",
        "",
        *grid(["", "target", "allowed", "measured", "met"], words=5),
    ]
    for section, document in sections:
        link = f"[{section.title}](#{section.title.lower().replace(' ', '-')})" + (", quick" if document["quick"] else "")
        lines += [row([link, *target.cells]) for target in section.targets(document)]
    for section, document in sections:
        lines += ["", f"## {section.title}", "", f"`python benchmarks/run.py --only {section.command}`: {origin(document)}."]
        for name, seen in section.plots.items():
            lines += ["", f"![{seen}]({PLOTS}/{name}.svg)"]
        lines += ["", *section.lines(document)]
    return "\n".join(lines) + "\n"


def origin(document: dict[str, Any]) -> str:
    """When, on what and with what it was measured."""
    dates = sorted({cell.get("date", document["date"]) for cell in document.get("cells", [])} or {document["date"]})
    versions = [f"{name} {version}" for name, version in document["versions"].items()]
    known = [" to ".join(dict.fromkeys((dates[0], dates[-1]))), document["machine"], f"Python {document['python']}", *versions]
    peers = ", ".join(f"{name} {version}" for name, version in document.get("peers", {}).items())
    size = "; small models or fewer of them (`--quick`), so the targets say little" if document["quick"] else ""
    remark = document.get("remark", "")
    return f"{', '.join(known)}{f'; the peers: {peers}' if peers else ''}{size}{f'; {remark}' if remark else ''}"


def descriptions(home: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The name of each plot, what it says that it was made from, and the document."""
    for section in SECTIONS:
        path = home / section.recorded
        if path.exists():
            digest = hashlib.sha256(path.read_text("utf-8").encode()).hexdigest()
            for name in section.plots:
                yield name, f"made from {section.recorded}, sha256 {digest}", recorded.load(path)


def block(home: Path) -> str:
    """The block of README.md."""
    return headlines.block({section.recorded: recorded.load(home / section.recorded) for section in SECTIONS})


def write(home: Path) -> None:
    """Writes the page and the plots into the folder that the outcomes are in; of full outcomes, the block of README.md too."""
    from benchmarks import plots  # matplotlib

    (home / PAGE).write_text(page(home), "utf-8")
    for name, description, document in descriptions(home):
        plots.draw(name, document, home / PLOTS / f"{name}.svg", description)
    if home == recorded.FULL:
        fill(README, headlines.MARK, block(home))


if __name__ == "__main__":
    write(recorded.FULL)
