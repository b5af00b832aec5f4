"""The block of README.md between its `results` marks: the most telling figures of the page of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.cells import RUNS
from benchmarks.machine import PEERS
from benchmarks.markdown import BNFOLD, bold, grid, row
from benchmarks.session_cells import geometric_mean

MARK = "results"
TOOLS = (BNFOLD, *PEERS)
FILE, CHAIN = "3 GB, external data", "a chain of Conv and BatchNormalization"
LEAD = """What each tool costs, and what its files are worth. Folding: whole processes. Latency: {runtime} at its default
level, one thread, batch 1, geometric mean over {networks} networks, relative to the file before folding, and in how many of them
it is lower beyond the noise; onnxruntime itself runs them all. Weights: how far the worst one lies from the exact fold, in units
in the last place; 0.5 is the best there is. How, on which machine, with which noise, and all the rest:
[benchmarks/RESULTS.md](benchmarks/RESULTS.md)."""


def block(documents: dict[str, dict[str, Any]]) -> str:
    """The table, from the recorded documents by the names of their files."""
    sessions = documents["inference.json"]
    cells = [cell for cell in sessions["cells"] if (cell["level"], cell["threads"], cell["batch"]) == ("default", *RUNS[0])]
    networks = {cell["network"] for cell in cells if "failure" not in cell}
    lead = LEAD.format(runtime=f"onnxruntime {sessions['versions']['onnxruntime']}", networks=len(networks))
    rows = [
        *_folding(documents["tool_cost.json"], documents["scaling.json"]),
        row(["latency, raw PyTorch exports", *_each(lambda tool: _latency(cells, "raw", tool))]),
        row(["latency, clean exports", *_each(lambda tool: _latency(cells, "clean", tool))]),
        row(["worst weight, in ulp", *_each(lambda tool: _ulp(documents["numerical.json"], tool))]),
    ]
    return "\n".join([lead, "", *grid(["", *map(bold, TOOLS)]), *rows])


def _each(figure: Callable[[str], str]) -> Iterator[str]:
    for tool in TOOLS:
        found = figure(tool) or "–"
        yield f"**{found}**" if tool == BNFOLD else found


def _folding(cost: dict[str, Any], scaling: dict[str, Any]) -> Iterator[str]:
    (large,) = (case["tools"] for case in cost["cases"] if case["name"] == FILE)
    yield row([f"folding {FILE}; `cp` takes {large['cp']['wall_s']:.1f} s", *_each(lambda tool: _time(large[tool], "wall_s"))])
    yield row(["its peak memory", *_each(lambda tool: _memory(large[tool]["peak_mb"]))])
    chains = [case for case in scaling["graphs"] if case["name"] == CHAIN and set(TOOLS) <= case["tools"].keys()]
    for case in (chains[0], chains[-1])[: len(chains)]:
        yield row(
            [
                f"folding {case['size']:,} nodes, processor time",
                *_each(lambda tool, case=case: _time(case["tools"][tool], "cpu_s")),
            ]
        )


def _memory(megabytes: float) -> str:
    return f"{megabytes:.0f} MB" if megabytes < 1e3 else f"{megabytes / 1e3:.1f} GB"


def _time(found: dict[str, Any], key: str) -> str:
    if "failure" not in found:
        return f"{found[key]:.1f} s"
    return found["failure"].replace("more than", ">") if found["failure"].startswith("more than") else "fails"


def _latency(cells: list[dict[str, Any]], export: str, tool: str) -> str:
    rows = [cell["rows"].get(tool, {}) for cell in cells if cell["export"] == export]
    ran = [found for found in rows if "ratio" in found]
    if not ran:
        return ""
    faster = sum(found["claim"] == "faster" for found in ran)
    return f"{geometric_mean(ran, 'ratio'):.2f} × ({faster} of {len(ran)})"


def _ulp(document: dict[str, Any], tool: str) -> str:
    rows = [case["rows"].get(tool, {}) for case in document["rows"]]
    worst = max((found["ulp_max"] for found in rows if found.get("ulp_max")), default=None)
    return f"{worst:.1f}" if worst else ""
