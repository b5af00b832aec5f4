"""Both models in float64 on the same input, and the candidate once more with its new weights moved by their rounding."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.runtime.against_truth import TrueValues
from bnfold.runtime.compare import leaves
from bnfold.runtime.session import Value
from bnfold.runtime.source import Source

if TYPE_CHECKING:
    import onnx

    from bnfold.runtime.reference import Reference

MOST_PARAMETERS = 2**28
"""The size up to which a model is evaluated in float64: these are 2 GiB, and a few copies are about at a time."""


class NoTruth(Exception):
    """There is no float64 truth for these models; the message says why, as a sentence."""


@dataclass(frozen=True, eq=False)
class Truth:
    """One input in float64.

    Attributes:
        outputs: output → the arrays in it, one for a tensor, several for a sequence; None for what is no number.
        watched: the same for tensors inside.
    """

    outputs: Mapping[str, tuple[TrueValues | None, ...]]
    watched: Mapping[str, TrueValues]


class Oracle:
    """Knows the true values of two models.

    Args:
        original: the original.
        candidate: the candidate.

    Attributes:
        original: the original's graph, weights in external data not loaded.
        candidate: the candidate's.
        known: what tells the original's constants apart, by name.
        own: the same of the candidate's.
        shakes: makes the candidate's with its new weights moved by one unit in the last place, up or down by a seed; None where
            none is new.

    Raises:
        NoTruth: an operator is beyond the reference, or the models are too large.
    """

    def __init__(self, original: Source, candidate: Source) -> None:
        from bnfold.runtime.reference import Reference, uncovered

        self.original, self.candidate = graph_of(original), graph_of(candidate)
        beyond = sorted({*uncovered(self.original), *uncovered(self.candidate)})
        if beyond:
            names = ", ".join(beyond[:_NAMED]) + (f" and {len(beyond) - _NAMED} more" if len(beyond) > _NAMED else "")
            raise NoTruth(f"The float64 reference does not cover {names}.")
        parameters = sum(int(np.prod(tensor.dims, dtype=np.int64)) for tensor, _ in _tensors(self.original))
        if parameters > MOST_PARAMETERS:
            raise NoTruth(f"In float64 its {parameters:,} parameters would take too much memory.")
        self.known, self.own = digests(self.original, original.folder), digests(self.candidate, candidate.folder)
        new = {name for name, digest in self.own.items() if self.known.get(name) != digest}
        self.shakes = partial(_shaken, self.candidate, candidate.folder, new)
        shaken = self.shakes(0)
        self._references: list[Reference] = [
            Reference(self.original, original.folder),
            Reference(self.candidate, candidate.folder),
        ]
        if shaken is not None:
            self._references.append(Reference(shaken, candidate.folder))

    def ask(self, feed: Mapping[str, Value], watch: Sequence[str] = ()) -> Truth:
        """The truth about one input.

        Args:
            feed: input name → value.
            watch: tensors of both main graphs that are wanted as well.

        Raises:
            NoTruth: the reference cannot evaluate it.
        """
        from bnfold.errors import InputError

        fed = {name: value for name, value in feed.items() if value is not None}
        try:
            found = [reference.run(fed, watch) for reference in self._references]
        except InputError as error:
            raise NoTruth(f"The float64 reference stopped: {error}") from error
        watched = [one.watched for one in found]
        floats = [name for name in watch if all(name in one and one[name].dtype == np.float64 for one in watched)]
        return Truth(
            {name: tuple(_values([one.outputs[name] for one in found])) for name in found[0].outputs},
            {name: each for name in floats for each in _values([one[name] for one in watched]) if each is not None},
        )


_NAMED = 5


def graph_of(source: Source) -> onnx.ModelProto:
    """A model's graph; weights in external data stay there."""
    import onnx

    if isinstance(source.payload, bytes):
        return onnx.load_model_from_string(source.payload)
    return onnx.load(source.payload, load_external_data=False)


def digests(proto: onnx.ModelProto, folder: Path | None) -> dict[str, int]:
    """Name → what tells the values of one constant from those of another, for the initializers and constants of all scopes."""
    from onnx import TensorProto

    found: dict[str, int] = {}
    for tensor, name in _tensors(proto):
        external = tensor.data_location == TensorProto.EXTERNAL
        content = _array(tensor, folder).tobytes() if external or not tensor.raw_data else tensor.raw_data
        found[name] = hash((tensor.data_type, tuple(tensor.dims), content))
    return found


def _values(found: Sequence[Any]) -> Iterator[TrueValues | None]:
    """The values of one output by the original, the candidate and, if there is one, the shaken candidate."""
    columns = [[array for _, array in leaves(one)] for one in found]
    for arrays in zip(*columns, strict=False):
        if any(array.dtype.kind not in "biuf" or array.shape != arrays[0].shape for array in arrays):
            yield None
            continue
        original, candidate, *shaken = (array.astype(np.float64, copy=False) for array in arrays)
        with np.errstate(all="ignore"):
            rounding = np.abs(shaken[0] - candidate) / 2 if shaken else np.zeros_like(original)
        yield TrueValues(original, candidate, rounding)


def _shaken(candidate: onnx.ModelProto, folder: Path | None, new: Collection[str], seed: int) -> onnx.ModelProto | None:
    """The candidate, each value of its new float constants moved by one unit in the last place; None where there are none."""
    import onnx
    from onnx import numpy_helper

    if not new:
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(candidate)
    rng = np.random.default_rng(seed)
    for tensor, name in _tensors(copy):
        if name not in new:
            continue
        values = _array(tensor, folder)
        if values.dtype.kind == "f" or values.dtype == ml_dtypes.bfloat16:
            tensor.CopyFrom(numpy_helper.from_array(_moved(values, rng), tensor.name))
    return copy


def _moved(values: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    wide = values.astype(np.float64)
    facts = ml_dtypes.finfo(values.dtype)  # type: ignore[no-untyped-call]
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.maximum(np.abs(wide), float(facts.smallest_normal)))
        step = np.ldexp(float(facts.eps), exponent - 1) * rng.choice((-1.0, 1.0), wide.shape)
        moved = (wide + step).astype(values.dtype)
        return np.asarray(np.where((wide != 0) & np.isfinite(moved.astype(np.float64)), moved, values))


def _array(tensor: onnx.TensorProto, folder: Path | None) -> NDArray[Any]:
    from onnx import numpy_helper

    array: NDArray[Any] = numpy_helper.to_array(tensor, str(folder or ""))
    return array


def _tensors(proto: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, str]]:
    """Initializers and the tensors of Constant nodes, in every scope, with the names that they are read by."""
    scopes: list[Any] = [proto.graph, *proto.functions]
    while scopes:
        scope = scopes.pop()
        for tensor in getattr(scope, "initializer", ()):
            yield tensor, tensor.name
        for node in scope.node:
            for attribute in node.attribute:
                if attribute.HasField("t") and node.op_type == "Constant":
                    yield attribute.t, node.output[0]
                if attribute.HasField("g"):
                    scopes.append(attribute.g)
                scopes.extend(attribute.graphs)
