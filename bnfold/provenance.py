"""Where a folded model comes from, in its own `metadata_props`: which bnfold made it, of which file, and what went into what.

    bnfold.version         "0.1.0"
    bnfold.source_sha256   of the file that was folded; of a model with external data, of the file that refers to it
    bnfold.folds           [["bn1", ["Conv `conv1`"]], …]: each normalization with the operators that took it
    bnfold.earlier         [{"version": …, "source_sha256": …, "folds": …}, …]: runs before this one, the first one first

Nothing else is in there, no date and no name of a machine: two runs give the same bytes. Hashing a large file takes longer than
folding it. So it is computed beside that, and put in its place once the file is written.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold import __version__
from bnfold.verdict import Fold, Plan

if TYPE_CHECKING:
    import onnx

PREFIX = "bnfold."
_PLACEHOLDER = os.urandom(32).hex()
"""In place of a hash that is not known yet, as long as one."""


@dataclass(frozen=True)
class Folded:
    """One run of bnfold that a model has been through.

    Attributes:
        version: of bnfold.
        source_sha256: of the model file that came in, without its external data.
        folds: each normalization, with its scope, and the operators that took it.
    """

    version: str
    source_sha256: str
    folds: tuple[tuple[str, tuple[str, ...]], ...]


class Digest:
    """The SHA-256 of a file, computed while something else goes on.

    Args:
        path: the file; it must not change meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._found: str | OSError = ""
        self._thread = threading.Thread(target=self._compute, args=(path,), daemon=True)
        self._thread.start()

    def _compute(self, path: Path) -> None:
        try:
            with path.open("rb") as stream:
                self._found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            self._found = error

    def wait(self) -> str:
        """The hash, in hexadecimal digits.

        Raises:
            OSError: the file cannot be read.
        """
        self._thread.join()
        if isinstance(self._found, OSError):
            raise self._found
        return self._found


def note(proto: onnx.ModelProto, plan: Plan) -> None:
    """Writes into a model what has been folded in it; its source's hash comes with `seal`. What other runs left is kept."""
    earlier = read(proto)
    one = Folded(__version__, _PLACEHOLDER, tuple((_place(fold), fold.into) for fold in plan.folds))
    values = {"version": one.version, "source_sha256": one.source_sha256, "folds": _compact(one.folds)}
    values |= {"earlier": _compact([asdict(each) for each in earlier])} if earlier else {}
    for place in reversed(range(len(proto.metadata_props))):
        if proto.metadata_props[place].key == PREFIX + "earlier" and not earlier:  # nothing that could be read
            del proto.metadata_props[place]
    entries = {entry.key: entry for entry in proto.metadata_props}
    for name, value in values.items():
        entry = entries.get(PREFIX + name) or proto.metadata_props.add(key=PREFIX + name)
        entry.value = value


def seal(path: Path, sha256: str) -> None:
    """Puts the hash into a written model that `note` was called for."""
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as content:
        place = content.rfind(_PLACEHOLDER.encode())
        content[place : place + len(sha256)] = sha256.encode()


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
