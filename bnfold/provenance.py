"""Where a folded model comes from, in its own `metadata_props`: which bnfold made it, of which file, and what went into what.

    bnfold.version         "0.1.0"
    bnfold.source_sha256   of the file that was folded; of a model with external data, of the file that refers to it; "" for one
                           above 256 MB that was not verified
    bnfold.folds           [["bn1", ["Conv `conv1`"]], …]: each normalization with the operators that took it
    bnfold.earlier         [{"version": …, "source_sha256": …, "folds": …}, …]: runs before this one, the first one first

Nothing else is in there, no date and no name of a machine: two runs give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold import __version__
from bnfold.verdict import Fold, Plan

if TYPE_CHECKING:
    import onnx

PREFIX = "bnfold."
HASHED_BYTES = 1 << 28
"""Larger files are hashed only where a verification runs, which takes longer: to hash one takes as long as to fold it."""


@dataclass(frozen=True)
class Folded:
    """One run of bnfold that a model has been through.

    Attributes:
        version: of bnfold.
        source_sha256: of the model file that came in, without its external data; "" where that was large and not verified.
        folds: each normalization, with its scope, and the operators that took it.
    """

    version: str
    source_sha256: str
    folds: tuple[tuple[str, tuple[str, ...]], ...]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def note(proto: onnx.ModelProto, plan: Plan, source_sha256: str) -> None:
    """Writes into a model what has been folded in it. What other runs left is kept."""
    earlier = read(proto)
    one = Folded(__version__, source_sha256, tuple((_place(fold), fold.into) for fold in plan.folds))
    values = {"version": one.version, "source_sha256": one.source_sha256, "folds": _compact(one.folds)}
    values |= {"earlier": _compact([asdict(each) for each in earlier])} if earlier else {}
    for place in reversed(range(len(proto.metadata_props))):
        if proto.metadata_props[place].key == PREFIX + "earlier" and not earlier:  # nothing that could be read
            del proto.metadata_props[place]
    entries = {entry.key: entry for entry in proto.metadata_props}
    for name, value in values.items():
        entry = entries.get(PREFIX + name) or proto.metadata_props.add(key=PREFIX + name)
        entry.value = value


def read(proto: onnx.ModelProto) -> tuple[Folded, ...]:
    """The runs that a model has been through, the first one first; () for one that has been through none, or does not tell."""
    values = {entry.key.removeprefix(PREFIX): entry.value for entry in proto.metadata_props if entry.key.startswith(PREFIX)}
    try:
        runs = json.loads(values.get("earlier", "[]"))
        return tuple(map(_folded, [*runs, {**values, "folds": json.loads(values["folds"])}]))
    except (KeyError, TypeError, ValueError):
        return ()


def _folded(stored: dict[str, Any]) -> Folded:
    folds = tuple((str(name), tuple(map(str, into))) for name, into in stored["folds"])
    return Folded(str(stored["version"]), str(stored["source_sha256"]), folds)


def _place(fold: Fold) -> str:
    one = fold.normalization
    return "/".join(filter(None, (one.scope, one.name)))


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
