"""Large weights inside a protobuf file: found by a scan of the wire format, and replaced without parsing them.

A message is a sequence of fields, each a key, `number << 3 | wire type`, and a value; those of wire type 2 are preceded by their
length in bytes (https://protobuf.dev/programming-guides/encoding). Whatever is no longer than what is looked for is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, TypeAlias

Read: TypeAlias = Callable[[int], tuple[bytes, int]]
"""Some bytes, and where among them a position is: a few stand behind it at least, unless the file ends before."""

_CHILDREN = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph"},
}
"""kind of message → field number → kind of message in it, as far as there may be weights (onnx.proto)."""

_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _DOC_STRING, _METADATA = 1, 2, 8, 9, 12, 16  # fields of TensorProto
_WINDOW_BYTES = 1 << 16
_LONGEST_HEADER = 20  # a key and a length


class Malformed(ValueError):
    """The bytes are no protobuf message."""


@dataclass(frozen=True)
class Message:
    """Where a message lies that stands in another: its length, which precedes it, and the bytes `[start, end)`."""

    length_at: int
    start: int
    end: int


@dataclass(frozen=True)
class RawData:
    """The `raw_data` of one tensor that holds its values in no other way.

    Attributes:
        start: where the field begins, with its key.
        data: where its content begins.
        end: where it ends.
        dims: the tensor's dimensions.
        data_type: its element type.
        around: the messages it stands in, the tensor last.
    """

    start: int
    data: int
    end: int
    dims: tuple[int, ...]
    data_type: int
    around: tuple[Message, ...]


@dataclass(frozen=True)
class Edit:
    """Other bytes in the place of `[start, end)`: `length` of them, which `content` stands for."""

    start: int
    end: int
    length: int
    content: Any
    around: tuple[Message, ...] = ()


@dataclass
class Window:
    """Reads a file a piece at a time."""

    stream: IO[bytes]
    start: int = 0
    content: bytes = field(default=b"", repr=False)

    def __call__(self, place: int) -> tuple[bytes, int]:
        """The bytes around `place`, in `Read`'s way."""
        inside = place - self.start
        if not 0 <= inside <= len(self.content) - _LONGEST_HEADER:
            self.stream.seek(place)
            self.start, self.content, inside = place, self.stream.read(_WINDOW_BYTES), 0
        return self.content, inside


def find_raw_data(read: Read, size: int, wanted: Callable[[int, int], bool]) -> Iterator[RawData]:
    """Every `raw_data` of a model whose range `[start, end)`, like those of all messages around it, is wanted.

    Raises:
        Malformed: the bytes are no protobuf message.
    """
    pending: list[tuple[str, int, int, tuple[Message, ...]]] = [("model", 0, size, ())]
    while pending:
        kind, start, end, around = pending.pop()
        children, tensors, seen = _CHILDREN[kind], [], 0
        for number, _, length_at, body, stop in _fields(read, start, end):
            child = children.get(number)
            seen += child == "tensor"
            if child is None or not wanted(body, stop):
                continue
            inner = (*around, Message(length_at, body, stop))
            if child == "tensor":
                tensors.append(inner)
            else:
                pending.append((child, body, stop, inner))
        if kind == "attribute" and seen > 1:
            continue  # one field twice: protobuf merges them
        for inner in tensors:
            found = _raw_data(read, inner)
            if found is not None and wanted(found.data, found.end):
                yield found


def _raw_data(read: Read, around: tuple[Message, ...]) -> RawData | None:
    dims: list[int] = []
    data_type, raw = 0, None
    for number, key_at, length_at, body, stop in _fields(read, around[-1].start, around[-1].end):
        if number == _DIMS and length_at < 0:
            dims.append(body)
        elif number == _DIMS:
            dims += _packed(read, body, stop)
        elif number == _DATA_TYPE:
            data_type = body
        elif number == _RAW_DATA and raw is None:
            raw = key_at, body, stop
        elif number not in (_NAME, _DOC_STRING) and number < _METADATA:
            return None  # values elsewhere as well, or this field twice
    return RawData(*raw, tuple(dims), data_type, around) if raw is not None else None


def _fields(read: Read, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """The fields of a message: number, where the key is, where the length is, and the range of the content.

    A field without length has −1 for it, and the value of a varint where the range of the content begins.
    """
    place = start
    while place < end:
        content, inside = read(place)
        key, length_in = _varint(content, inside)
        wire_type = key & 7
        length_at = place + length_in - inside
        if wire_type == 2:
            length, body_in = _varint(content, length_in)
            body = place + body_in - inside
            stop = body + length
            yield key >> 3, place, length_at, body, stop
        elif wire_type == 0:
            value, stop_in = _varint(content, length_in)
            stop = place + stop_in - inside
            yield key >> 3, place, -1, value, stop
        elif wire_type in (1, 5):
            stop = length_at + (8 if wire_type == 1 else 4)
        else:
            raise Malformed(f"byte {place:,} is no protobuf field")
        if stop > end:
            raise Malformed(f"the field at byte {place:,} is cut short")
        place = stop


def _packed(read: Read, start: int, end: int) -> Iterator[int]:
    while start < end:
        content, inside = read(start)
        value, stop_in = _varint(content, inside)
        start += stop_in - inside
        yield value


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number in groups of 7 bits, the lowest first, and where it ends."""
    if place < len(content) and content[place] < 0x80:  # most are this short
        return content[place], place + 1
    value = shift = 0
    for byte in content[place : place + 10]:
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise Malformed("a number is cut short")


def varint(value: int) -> bytes:
    """The shortest encoding of a number."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def rewritten(size: int, edits: Sequence[Edit]) -> Iterator[tuple[int, int] | Edit]:
    """What the message consists of after the edits, in order: ranges of its old bytes, and edits.

    The lengths of all messages around an edit change with it.

    Args:
        size: of the old message.
        edits: none of which overlap.
    """
    parents = {inner: outer for edit in edits for outer, inner in zip((None, *edit.around), edit.around, strict=False)}
    growth = dict.fromkeys(parents, 0)
    for edit in edits:
        growth[edit.around[-1]] += edit.length - (edit.end - edit.start)
    lengths = []
    for message in sorted(parents, key=lambda each: each.start, reverse=True):  # what stands in a message begins behind it
        new = varint(message.end - message.start + growth[message])
        lengths.append(Edit(message.length_at, message.start, len(new), new))
        outer = parents[message]
        if outer is not None:
            growth[outer] += growth[message] + len(new) - (message.start - message.length_at)
    place = 0
    for edit in sorted((*edits, *lengths), key=lambda each: each.start):
        if place < edit.start:
            yield place, edit.start
        yield edit
        place = edit.end
    if place < size:
        yield place, size
