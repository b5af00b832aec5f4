"""What was measured of the shipped networks: `results.json`, and the tables of README.md made from it."""

import json
from pathlib import Path
from typing import Any

from models.trained import TRAINED, Trained

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
README = HERE / "README.md"
BEGIN, END = "<!-- results: written by `python -m models table` -->", "<!-- end of results -->"


def load() -> dict[str, Any]:
    """The records by network name, as `train.train` returned them, with that of `measure.measure` under "folding"."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def record(name: str, result: dict[str, Any]) -> None:
    """Adds `result` to one network's record, replacing what it replaces, and brings README.md up to date."""
    records = load()
    records[name] = records.get(name, {}) | result
    RESULTS.write_text(json.dumps({known: records[known] for known in TRAINED if known in records}, indent=1) + "\n")
    write_table()


def write_table() -> None:
    """Replaces the tables in README.md."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table()}{END}{after}", encoding="utf-8")


def table() -> str:
    """Four tables as Markdown: networks, folding, why normalizations stay, and the runs where there were several."""
    records = {name: record for name, record in load().items() if "folding" in record}
    tables = (_networks(records), _folding(records), _rest(records), _runs(records))
    return "\n\n".join("\n".join(lines) for lines in tables) + "\n"


def _networks(records: dict[str, Any]) -> list[str]:
    lines = [
        "| name | network | source | data | examples: train | test | parameters | file | size |",
        "|---|---|---|---|--:|--:|--:|---|--:|",
    ]
    for name, r in records.items():
        network = TRAINED[name]
        lines.append(
            f"| {name} | {network.title} | [{network.paper}]({network.module}.py) | [{network.data}]({network.data}.py) "
            f"| {r['train_examples']:,} | {r['test_examples']:,} | {r['parameters']:,} | `{r['file']}` | {r['bytes']:,} B |"
        )
    return lines


def _folding(records: dict[str, Any]) -> list[str]:
    lines = [
        "| name | normalizations | after folding | train, PyTorch | test, PyTorch | test, ONNX | test, folded "
        "| flips: ONNX against PyTorch | folded against ONNX | max\\|Δ\\|: ONNX against PyTorch | folded against ONNX "
        "| largest output |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, r in records.items():
        network, folding, count = TRAINED[name], r["folding"], r["test_examples"]
        scores = [_score(network, r["train_score"], r["train_examples"])]
        scores += [_score(network, folding[f"score_{which}"], count) for which in ("torch", "original", "folded")]
        if folding["r2"] is not None:
            scores[-2] += f" (R² {folding['r2']:.4f})"
        flips = [_flips(folding[f"flips_{which}"], count) for which in ("torch", "folded")]
        differences = [f"{folding[f'difference_{which}']:.1e}" for which in ("torch", "folded")]
        left = " + ".join(f"{number} {code}" for code, number in folding["left"].items()) or "0"
        cells = (name, folding["normalizations"], left, *scores, *flips, *differences, f"{folding['largest']:.1f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _rest(records: dict[str, Any]) -> list[str]:
    lines = ["| name | code | left | why |", "|---|---|--:|---|"]
    for name, r in records.items():
        for code, number in r["folding"]["left"].items():
            lines.append(f"| {name} | {code} | {number} | {TRAINED[name].rest.get(code, '**not documented**')} |")
    return lines if len(lines) > 2 else ["Nothing stays."]


def _runs(records: dict[str, Any]) -> list[str]:
    several = {name: r for name, r in records.items() if len(r["runs"]) > 1}
    epochs = max((len(r["runs"][0]["epochs"]) for r in several.values()), default=0)
    numbers = " | ".join(str(epoch + 1) for epoch in range(epochs))
    lines = [f"| network, seed | train | train, while training | test after epoch {numbers} |", "|---|--:|--:|" + "--:|" * epochs]
    for name, r in several.items():
        for run in r["runs"]:
            label = f"{name}, {run['seed']}"
            running = run["epochs"][-1]["train_running"] / r["train_examples"]
            tests = " | ".join(f"{epoch['test'] / r['test_examples']:.3f}" for epoch in run["epochs"])
            lines.append(
                f"| {f'**{label}**' if run['seed'] == r['seed'] else label} "
                f"| {run['train_score'] / r['train_examples']:.3f} | {running:.3f} | {tests} |"
            )
    return lines


def _score(network: Trained, score: float, count: int) -> str:
    return f"{score / count:.4f}" if network.output == "logits" else f"RMSE {score:.4f}"


def _flips(flips: int | None, count: int) -> str:
    return "–" if flips is None else f"{flips} of {count:,}"
