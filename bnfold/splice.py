"""Large weights cut out of a model file before it is parsed, and put back when one is written.

What is put back is, byte for byte, what protobuf writes for the whole model. How a weight stands in the model meanwhile, says
`bnfold.inline`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from bnfold.inline import PLACEHOLDER, refer
from bnfold.stream import Content, length_of
from bnfold.weights import byte_count
from bnfold.wire import Edit, RawData, Window, find_raw_data, rewritten, varint

LARGE_WEIGHT_BYTES = 1 << 16
"""Smaller weights stay where they are."""

_RAW_DATA_KEY = b"\x4a"  # field 9, with a length


def read_without_weights(path: Path) -> bytes:
    """A serialized model whose large weights are cut out.

    Raises:
        OSError: it cannot be read.
        Malformed: it is no protobuf, or damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        found = find_raw_data(Window(stream), size, lambda start, end: end - start >= LARGE_WEIGHT_BYTES)
        edits = [edit for raw in found if _is_whole(raw) for edit in _cut(raw, path.name)]
        parts = []
        for part in rewritten(size, edits):
            if isinstance(part, Edit):
                parts.append(part.content)
            else:
                stream.seek(part[0])
                parts.append(stream.read(part[1] - part[0]))
        return b"".join(parts)


def _is_whole(raw: RawData) -> bool:
    try:
        return byte_count(raw.data_type, raw.dims) == raw.end - raw.data
    except (KeyError, TypeError, ValueError):
        return False


def _cut(raw: RawData, location: str) -> Iterator[Edit]:
    tensor = onnx.TensorProto()
    refer(tensor, location, raw.data, raw.end - raw.data)
    entries = tensor.SerializeToString()
    yield Edit(raw.start, raw.end, 0, b"", raw.around)
    yield Edit(raw.around[-1].end, raw.around[-1].end, len(entries), entries, raw.around)


def spliced(serialized: bytes, contents: Sequence[Content]) -> Iterator[Content]:
    """The parts of a serialized model in which each content stands in the place of its placeholder."""
    marks = {found.start(): found.end() for found in re.finditer(re.escape(PLACEHOLDER), serialized)}
    starts = sorted(marks)

    def wanted(start: int, end: int) -> bool:
        place = bisect_left(starts, start)
        return place < len(starts) and starts[place] < end

    edits = []
    for raw in find_raw_data(lambda place: (serialized, place), len(serialized), wanted):
        if raw.data not in marks:
            continue
        content = contents[int.from_bytes(serialized[marks[raw.data] : raw.end], "little")]
        header = _RAW_DATA_KEY + varint(length_of(content))
        edits.append(Edit(raw.start, raw.data, len(header), header, raw.around))
        edits.append(Edit(raw.data, raw.end, length_of(content), content, raw.around))
    assert len(edits) == 2 * len(contents)
    for part in rewritten(len(serialized), edits):
        yield part.content if isinstance(part, Edit) else serialized[part[0] : part[1]]
