"""What was measured of the shipped networks: `results.json`, and the tables of README.md made from it."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
README = HERE / "README.md"
BEGIN, END = "<!-- results: written by `python -m models table` -->", "<!-- end of results -->"


def load() -> dict[str, Any]:
    """The records by network name, as `train.train` returned them."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def record(name: str, result: dict[str, Any]) -> None:
    """Stores one network's record and brings README.md up to date."""
    RESULTS.write_text(json.dumps(load() | {name: result}, indent=1) + "\n")
    write_table()


def write_table() -> None:
    """Replaces the tables in README.md."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table()}{END}{after}", encoding="utf-8")


def table() -> str:
    """Two tables as Markdown: one row per shipped network, and one row per training run, the shipped one in bold."""
    records = load()
    lines = [
        "| network | file | size | trained parameters | train, PyTorch | test, PyTorch | test, ONNX "
        "| ONNX predicts as PyTorch does |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, r in records.items():
        lines.append(
            f"| {name} | `{r['file']}` | {r['bytes']:,} B | {r['parameters']:,} "
            f"| {r['train_correct'] / r['train_images']:.4f} | {r['test_correct_torch'] / r['test_images']:.4f} "
            f"| {r['test_correct_onnx'] / r['test_images']:.4f} "
            f"| {r['test_same_prediction']:,} of {r['test_images']:,} |"
        )
    epochs = len(next(iter(records.values()))["runs"][0]["epochs"]) if records else 0
    lines += [
        "",
        "| network, seed | train | train, while training | test after epoch "
        + " | ".join(str(i + 1) for i in range(epochs))
        + " |",
        "|---|--:|--:|" + "--:|" * epochs,
    ]
    for name, r in records.items():
        for run in r["runs"]:
            label = f"{name}, {run['seed']}"
            running = run["epochs"][-1]["train_running"] / r["train_images"]
            tests = " | ".join(f"{epoch['test'] / r['test_images']:.3f}" for epoch in run["epochs"])
            lines.append(
                f"| {f'**{label}**' if run['seed'] == r['seed'] else label} "
                f"| {run['train_correct'] / r['train_images']:.3f} | {running:.3f} | {tests} |"
            )
    return "\n".join(lines) + "\n"
