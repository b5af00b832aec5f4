"""The file: a ModelProto and where its external data lies. Opens with checks, saves without ever leaving half a file."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from bnfold import inline
from bnfold.errors import EnvironmentUnfit, InputError
from bnfold.inline import is_cut_out, restore
from bnfold.stream import Content, Piece, length_of, write_pieces
from bnfold.weights import ExternalRegion, Weight, byte_count

_PAGE_BYTES = 4096
_LARGEST_PROTOBUF = (1 << 31) - 1


@dataclass
class Model:
    """An ONNX model on its way through bnfold.

    Attributes:
        proto: the model. External weights are not loaded, and neither are large ones of a large file: those are cut out, and
            stand there as external data in the file itself (`bnfold.inline`).
        path: the file it came from; None for a model that was given in memory.
        folder: where its external data lies.
    """

    proto: onnx.ModelProto
    path: Path | None = None
    _is_whole: bool = field(default=False, init=False, repr=False)

    @property
    def folder(self) -> Path | None:
        """Where external data is resolved: the model's own folder."""
        return self.path.parent if self.path is not None else None

    @classmethod
    def open(cls, path: Path) -> Model:
        """Reads a model and checks that its external data is there.

        Raises:
            InputError: the file is missing, unreadable, no ONNX model or truncated; its external data is missing, too short or
                outside the model's folder.
        """
        model = cls(_parse(path, _read(path)), path)
        model.check()
        return model

    @classmethod
    def copy_of(cls, proto: onnx.ModelProto) -> Model:
        """A model of its own from one in memory, which is left alone.

        Raises:
            InputError: its weights are in external files, and which folder they are in is not known.
        """
        own = onnx.ModelProto()
        own.CopyFrom(proto)
        model = cls(own)
        model.check()
        return model

    @property
    def size_bytes(self) -> int:
        """The size of the file and of the external data that it refers to, each byte once."""
        file = self.path.stat().st_size if self.path is not None else self.proto.ByteSize()
        regions = {(region.path, region.offset, region.length) for region in self._regions()}
        return file + sum(length for _, _, length in regions)

    def check(self) -> None:
        """Raises `InputError` for a model without graph, and for external data that is missing, short, or outside its folder."""
        if not self.proto.HasField("graph"):
            raise InputError(f"{self.path or 'the ModelProto'} holds no graph. Is it a checkpoint, or another format?")
        checked: set[str] = set()
        outside = list(external_tensors(self.proto))
        self._is_whole = not outside
        for tensor in outside:
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            if self.path is None:
                raise InputError(
                    f"the model keeps tensor `{tensor.name}` in the external file {location}, and a ModelProto does not say in "
                    "which folder. Pass the model's path, or load it with its external data."
                )
            if location not in checked:
                _check_location(self.path, location, tensor.name)
                checked.add(location)
            _check_region(self.path, tensor)

    def _external(self) -> Iterator[onnx.TensorProto]:
        # A fold makes external tensors from external ones only, so a model that was whole needs no second look through its nodes.
        return iter(()) if self._is_whole else external_tensors(self.proto)

    def _regions(self) -> Iterator[ExternalRegion]:
        for tensor in self._external():
            if not is_cut_out(tensor):
                yield ExternalRegion.of(tensor, self.folder)

    def external_files(self) -> list[Path]:
        """The external data files that the model refers to, each once."""
        return list(dict.fromkeys(region.path for region in self._regions()))

    def write(
        self, path: Path, data_name: str | None = None, folded: Iterable[tuple[onnx.TensorProto, Weight]] = ()
    ) -> list[Path]:
        """Writes the model to `path`, and its external data, if it has any, to one file beside it.

        Args:
            path: a file in an existing folder.
            data_name: the name of the data file; the model's name with ".data" by default.
            folded: tensors that stay external and the values they get; all other external tensors are copied.

        Returns:
            The files written, the model last.
        """
        new = {id(tensor): weight for tensor, weight in folded}
        tensors = list(self._external())
        outside = [tensor for tensor in tensors if not is_cut_out(tensor)]
        written = []
        if outside:
            data = path.with_name(data_name or f"{path.name}.data")
            self._write_external(data, outside, new)
            written.append(data)
        self._write_proto(path, [tensor for tensor in tensors if is_cut_out(tensor)], new)
        return [*written, path]

    def _write_external(self, path: Path, tensors: list[onnx.TensorProto], folded: dict[int, Weight]) -> None:
        pieces: list[Piece] = []
        places: list[tuple[onnx.TensorProto, Piece]] = []
        copied: dict[ExternalRegion, Piece] = {}
        end = 0
        for tensor in tensors:
            content: Content = folded.get(id(tensor)) or ExternalRegion.of(tensor, self.folder)
            piece = copied.get(content) if isinstance(content, ExternalRegion) else None  # several tensors may share one region
            if piece is None:
                piece = Piece(_aligned(end, length_of(content)), content)
                pieces.append(piece)
                end = piece.offset + length_of(content)
            if isinstance(content, ExternalRegion):
                copied[content] = piece
            places.append((tensor, piece))
        write_pieces(path, end, pieces)
        # Only now: until here a tensor's old place is where another tensor's values may come from.
        for tensor, piece in places:
            is_copy = isinstance(piece.content, ExternalRegion)
            _set_location(tensor, path.name, piece.offset, length_of(piece.content), keep_others=is_copy)
            if not isinstance(piece.content, bytes | ExternalRegion):
                tensor.dims[:] = piece.content.shape

    def _write_proto(self, path: Path, cut_out: list[onnx.TensorProto], folded: dict[int, Weight]) -> None:
        """Puts the weights that were cut out back in their places."""
        contents: list[Content] = [folded.get(id(tensor)) or ExternalRegion.of(tensor, self.folder) for tensor in cut_out]
        parts: Iterable[Content] = [serialized := self._serialized(path, cut_out, contents)]
        if contents:
            from bnfold.splice import spliced

            parts = spliced(serialized, contents)
        pieces, size = [], 0
        for part in parts:
            pieces.append(Piece(size, part))
            size += length_of(part)
        if size > _LARGEST_PROTOBUF:
            raise _too_large(path)
        write_pieces(path, size, pieces)

    def _serialized(self, path: Path, cut_out: list[onnx.TensorProto], contents: list[Content]) -> bytes:
        """The model with placeholders for what was cut out; afterwards it says again where those values come from."""
        references = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in cut_out]
        for place, (tensor, content) in enumerate(zip(cut_out, contents, strict=True)):
            restore(tensor, place)
            if not isinstance(content, bytes | ExternalRegion):
                tensor.dims[:] = content.shape
        if self.proto.ByteSize() > _LARGEST_PROTOBUF:
            raise _too_large(path)
        serialized: bytes = self.proto.SerializeToString()
        for tensor, reference in zip(cut_out, references, strict=True):
            tensor.CopyFrom(reference)
        return serialized


def external_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the model, in every graph, function and attribute, whose values are external."""
    for tensor in _tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [proto.graph, *(graph for info in proto.training_info for graph in (info.initialization, info.algorithm))]
    pending: list[onnx.GraphProto | onnx.FunctionProto] = [*graphs, *proto.functions]
    while pending:
        graph = pending.pop(0)
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    yield attribute.t
                elif attribute.type == onnx.AttributeProto.GRAPH:
                    pending.append(attribute.g)
                yield from attribute.tensors
                pending += attribute.graphs


@contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """A hidden folder beside `destination` to write into; gone afterwards, whatever happened.

    Raises:
        InputError: the destination's folder is missing, no folder, or cannot be written to.
        EnvironmentUnfit: the disk is full.
    """
    folder = destination.parent
    try:
        if not folder.is_dir():
            raise InputError(f"cannot write {destination}: {folder} is not a folder. Create it first.")
        if destination.is_dir():
            raise InputError(f"cannot write {destination}: it is a folder. Name a file.")
        if destination.exists() and not destination.is_file():
            raise InputError(f"cannot write {destination}: it is a device or a pipe, not a file. Name a file.")
        stage = tempfile.mkdtemp(prefix=f".{destination.name}.", dir=folder)
    except (OSError, ValueError) as error:
        raise _write_error(destination, error) from error
    try:
        yield Path(stage)
    except OSError as error:
        raise _write_error(destination, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def move_into_place(files: list[Path], stage: Path, folder: Path) -> None:
    """Renames staged files into `folder`, in order: data files first, the model that refers to them last.

    When one cannot be moved, those that were are taken back, and what they replaced is there again.
    """
    moved: list[tuple[Path, Path | None]] = []
    try:
        for place, file in enumerate(files):
            target = folder / file.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            moved.append((target, _set_aside(target, stage / f"replaced-{place}")))
            os.replace(file, target)
    except OSError:
        for target, replaced in reversed(moved):
            if replaced is not None:
                os.replace(replaced, target)
            else:
                target.unlink(missing_ok=True)
        raise


def _set_aside(target: Path, backup: Path) -> Path | None:
    if not os.path.lexists(target):
        return None
    try:
        os.link(target, backup, follow_symlinks=False)
    except OSError:  # not every file system has links
        shutil.copy2(target, backup, follow_symlinks=False)
    return backup


def refers_to(path: Path, data: Path) -> bool:
    """Whether the file at `path` is a model that keeps weights in `data`."""
    from bnfold.splice import read_without_weights

    try:
        model = Model(onnx.ModelProto.FromString(read_without_weights(path)), path)
        return any(file.exists() and file.samefile(data) for file in model.external_files())
    except (OSError, DecodeError, ValueError):
        return False


def _write_error(destination: Path, error: OSError | ValueError) -> InputError | EnvironmentUnfit:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentUnfit(f"cannot write {destination}: the disk is full. Nothing was left behind.")
    return InputError(f"cannot write {destination}: {_what(error)}. Choose another place.")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]}…{text[-10:]}"


def _what(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a model. Name the .onnx file in it.")
        content = _content(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {_what(error)}.") from error
    if not content:
        raise InputError(f"{path} is empty. Was the download complete?")
    return content


def _content(path: Path) -> bytes:
    if path.stat().st_size < inline.LARGE_FILE_BYTES:
        return path.read_bytes()
    from bnfold.splice import read_without_weights
    from bnfold.wire import Malformed

    try:
        return read_without_weights(path)
    except Malformed as error:
        if path.stat().st_size > _LARGEST_PROTOBUF:
            raise InputError(f"{path} is no ONNX model, or damaged: {error}. Was the download complete?") from error
        return path.read_bytes()  # parsing it will say more


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise InputError(f"{path} is not an ONNX model: {_damage(content)}") from error
    return proto


def _damage(content: bytes) -> str:
    """Where the outermost protobuf message breaks off (https://protobuf.dev/programming-guides/encoding)."""
    place = 0
    while place < len(content):
        key, start = _varint(content, place)
        field, kind = key >> 3, key & 7
        if kind == 0:
            _, place = _varint(content, start)
        elif kind == 2:
            length, place = _varint(content, start)
            place += length
        elif kind in (1, 5):
            place = start + (8 if kind == 1 else 4)
        else:
            return f"byte {start - 1:,} is no protobuf field. Is it another format?"
        if not 0 < field < 100 and place <= len(content):
            return f"byte {start - 1:,} is no field of a model. Is it another format?"
        if place > len(content):
            return f"the protobuf ends in the middle of field {field} (byte {len(content):,}). Was the download complete?"
    return "the protobuf is damaged inside. Was the download complete?"


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(content):
        value |= (content[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not content[place - 1] & 0x80:
            return value, place
    return value, place + 1


def _check_location(path: Path, location: str, tensor: str) -> None:
    target = path.parent / location
    try:
        # Links may stay inside the folder, or inside the folder that the model itself is linked from, which is how model hubs
        # lay out their caches.
        homes = [path.parent.resolve(), path.resolve().parent]
        inside = any(target.resolve().is_relative_to(home) for home in homes)
        found = target.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        kept = f"{path} keeps tensor `{tensor}` in {_short(location)!r}"
        raise InputError(f"{kept}, which is no usable file name: {_what(error)}. Correct the location.") from error
    if not location or os.path.isabs(location) or not inside:
        raise InputError(
            f"{path} keeps tensor `{tensor}` in {location!r}, which is outside the model's folder. Refusing to read it: put the "
            "file beside the model and correct the location."
        )
    if not found:
        raise InputError(f"{path} needs {location} (tensor `{tensor}`), which is not in {path.parent}. Put it beside the model.")


def _check_region(path: Path, tensor: onnx.TensorProto) -> None:
    try:
        region = ExternalRegion.of(tensor, path.parent)
        needed = byte_count(tensor.data_type, tuple(tensor.dims))
    except (ValueError, KeyError, TypeError) as error:
        entries = ", ".join(f"{entry.key}={_short(entry.value)}" for entry in tensor.external_data)
        found = f"{path} does not say correctly where tensor `{tensor.name}` lies ({entries}): {error}"
        raise InputError(f"{found}. Export it again.") from error
    size = region.path.stat().st_size
    if region.offset < 0 or region.length != needed or region.offset + region.length > size:
        raise InputError(
            f"{path} expects {needed:,} bytes of tensor `{tensor.name}` at byte {region.offset:,} of {region.path.name}, which "
            f"has {size:,} bytes (the model says {region.length:,}). Was the download complete?"
        )


def _too_large(path: Path) -> InputError:
    return InputError(f"{path} would be larger than 2 GB, which protobuf cannot hold. Store the weights as external data.")


def _aligned(end: int, length: int) -> int:
    """The page behind `end`, so that runtimes can map the tensor (onnx/docs/ExternalData.md); small ones begin at 16 bytes."""
    boundary = _PAGE_BYTES if length >= _PAGE_BYTES else 16
    return end + -end % boundary


def _set_location(tensor: onnx.TensorProto, location: str, offset: int, length: int, keep_others: bool) -> None:
    others = [(entry.key, entry.value) for entry in tensor.external_data if entry.key not in ("location", "offset", "length")]
    tensor.ClearField("external_data")
    entries = [("location", location), ("offset", str(offset)), ("length", str(length))]
    for key, value in (*entries, *(others if keep_others else ())):
        tensor.external_data.add(key=key, value=value)
