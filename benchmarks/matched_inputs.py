"""Do inputs matched to a network's statistics behave more like real ones than plain noise? Writes the tables in docs/inputs.md.

    python -m benchmarks.matched_inputs [NETWORK …]

For each network, on inputs of each kind and of the same shapes: the distance of what its normalizations read from what they
store; the share of channels behind a Relu that are neither dead nor always on; how many labels it gives; and what planted
mistakes (benchmarks/planting.py) do to the outputs, against what an honest fold does. For the LeNet also on real images.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import bnfold
from benchmarks.marks import fill
from benchmarks.planting import Array, channel_faults, faults, spots
from benchmarks.reference_models import ROOT, SHIPPED, everything
from bnfold.runtime.feeds import generated_feeds
from bnfold.runtime.matched import with_matched
from bnfold.runtime.session import Session, Value
from bnfold.runtime.source import Source, ValueSpec, read_source
from bnfold.runtime.statistics import Watch, distance

SAMPLE = ROOT / "models" / "fashion_mnist_sample.npz"
PAGE = ROOT / "docs" / "inputs.md"
SPOTS, CHANNELS, SEEN = 3, 8, 10.0


@dataclass(frozen=True)
class Row:
    """One network on one kind of input.

    Attributes:
        distance: of the activations to the stored statistics.
        alive: share of Relu channels that are positive at between 1 % and 99 % of places; NaN without a Relu.
        labels: how many different labels it gives, and to how many samples.
        effects: for each planted mistake, max|Δ| / max|y| at the outputs.
        honest: the same for the honest fold.
    """

    distance: float
    alive: float
    labels: tuple[int, int]
    effects: Array
    honest: float

    @property
    def seen(self) -> int:
        """Mistakes that change the outputs ten times as much as the honest fold does."""
        return int(np.sum(self.effects > SEEN * self.honest))


def measure(path: Path, images: Array | None = None) -> dict[str, Row] | None:
    """The rows of one network, by kind of input; None where it stores no statistics, or nothing folds backward.

    Args:
        path: of the model.
        images: real inputs, to measure on, too.
    """
    source = read_source(path, "original")
    original = onnx.load(path)
    folded = bnfold.fold(original, freeze_initializers=True).model
    watch, places = Watch(source), spots(original, folded)
    kinds = _kinds(source)
    if not places or not kinds:
        return None
    if images is not None:
        kinds["real"] = [{source.inputs[0].name: images}]
    chosen = [places[round(share * (len(places) - 1))] for share in np.linspace(0, 1, min(SPOTS, len(places)))]
    batch, rng = watch.run(kinds["normal"][0]), np.random.default_rng(0)
    faulty = [fault for spot in chosen for fault in faults(folded, spot, places, batch)]
    for spot in chosen:
        channels = rng.choice(len(spot.gamma), min(CHANNELS, len(spot.gamma)), replace=False)
        faulty += channel_faults(folded, spot, sorted(channels))
    rows = {}
    for kind, feeds in kinds.items():
        answers = _outputs(original, feeds)
        size = max(float(np.abs(value).max(initial=0)) for value in answers)
        effects = [_difference(answers, _outputs(fault.model, feeds)) / size for fault in faulty]
        honest = _difference(answers, _outputs(folded, feeds)) / size
        labels = answers[0].reshape(len(answers[0]), -1).argmax(1)
        rows[kind] = Row(
            distance(watch.moments([watch.run(feed) for feed in feeds])),
            _alive(source, original, feeds),
            (len(set(labels)), len(labels)),
            np.maximum(effects, 1e-12),
            honest,
        )
    return rows


def _kinds(source: Source) -> dict[str, list[dict[str, Value]]]:
    """Matched inputs, and normal noise of the same shapes; empty where nothing can be matched."""
    for feeds in with_matched(source, generated_feeds(source.inputs, {}, 0), 0):
        matched = [dict(feed.values) for feed in feeds if feed.label.startswith("matched")]
        if matched:
            rng = np.random.default_rng(1)
            plain = [{name: _noise(rng, value) for name, value in feed.items()} for feed in matched]
            return {"normal": plain, "matched": matched}
    return {}


def _noise(rng: np.random.Generator, value: Value) -> Value:
    array = np.asarray(value)
    return rng.standard_normal(array.shape).astype(array.dtype) if array.dtype.kind == "f" else value


def _outputs(model: onnx.ModelProto, feeds: list[dict[str, Value]]) -> list[Array]:
    """Every output over all feeds, one behind the other, as float64."""
    session = Session(read_source(model, "original"), "disabled")
    runs = [session.run(feed) for feed in feeds]
    return [np.concatenate([np.atleast_1d(value) for value in values]).astype(np.float64) for values in zip(*runs, strict=True)]


def _difference(one: list[Array], other: list[Array]) -> float:
    return max(float(np.abs(a - b).max(initial=0)) for a, b in zip(one, other, strict=True))


def _alive(source: Source, original: onnx.ModelProto, feeds: list[dict[str, Value]]) -> float:
    names = [node.output[0] for node in original.graph.node if node.op_type == "Relu"]
    if not names:
        return float("nan")
    model = onnx.ModelProto()
    model.CopyFrom(original)
    del model.graph.output[:]
    for name in names:
        model.graph.output.add().name = name
    specs = tuple(ValueSpec(name, "") for name in names)
    session = Session(replace(source, payload=model.SerializeToString(), outputs=specs), "disabled")
    layers = [np.concatenate(values) for values in zip(*(session.run(feed) for feed in feeds), strict=True)]
    share = np.concatenate([np.mean(np.moveaxis(each, 1, 0).reshape(each.shape[1], -1) > 0, 1) for each in layers])
    return float(np.mean((share > 0.01) & (share < 0.99)))


def _table(rows: Mapping[str, Mapping[str, Row]]) -> Iterator[str]:
    yield "| network | distance, normal | matched | Relu channels at work, normal | matched | mistakes seen, normal | matched |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name, pair in rows.items():
        plain, ours = pair["normal"], pair["matched"]
        yield (
            f"| {name} | {plain.distance:.2f} | {ours.distance:.2f} | {_percent(plain.alive)} | {_percent(ours.alive)} "
            f"| {plain.seen} of {len(plain.effects)} | {ours.seen} of {len(ours.effects)} |"
        )
    columns = {kind: [pair[kind] for pair in rows.values()] for kind in ("normal", "matched")}
    total = sum(len(row.effects) for row in columns["normal"])
    distances = " | ".join(f"**{np.mean([row.distance for row in column]):.2f}**" for column in columns.values())
    alive = " | ".join(f"**{_percent(float(np.nanmean([row.alive for row in column])))}**" for column in columns.values())
    seen = " | ".join(f"**{sum(row.seen for row in column)} of {total}**" for column in columns.values())
    yield f"| **all** | {distances} | {alive} | {seen} |"


def _real_table(rows: Mapping[str, Row]) -> Iterator[str]:
    """One network where real inputs are at hand."""
    real = np.log(rows["real"].effects)
    yield "| LeNet, eight inputs | distance | labels given | effect of a mistake, against that on real images |"
    yield "|---|--:|--:|--:|"
    for kind, row in rows.items():
        off = np.exp(np.mean(np.abs(np.log(row.effects) - real)))
        yield f"| {kind} | {row.distance:.2f} | {row.labels[0]} | {'' if kind == 'real' else f'off by a factor of {off:.2f}'} |"


def _percent(share: float) -> str:
    return "—" if np.isnan(share) else f"{share:.0%}"


def main() -> None:
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in everything(Path(folder), sys.argv[1:]):
            row = measure(path)
            print(f"{name}: {'nothing to match' if row is None else 'measured'}", file=sys.stderr)
            if row is not None:
                rows[name] = row
    lenet = measure(SHIPPED["lenet"], np.load(SAMPLE)["image"][:8])
    assert lenet is not None
    machine = f"numpy {np.__version__}, onnxruntime {onnxruntime.__version__}, {platform.machine()}, seed 0."
    text = "\n".join([*_table(rows), "", *_real_table(lenet), "", machine])
    print(text)
    if not sys.argv[1:]:
        fill(PAGE, "matched", text)


if __name__ == "__main__":
    main()
