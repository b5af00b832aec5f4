"""How large weights that a model holds itself stand in it: as external data in the model's own file.

So everything that reads external data reads them as well. `bnfold.splice` cuts them out of a file, and puts them back into one.
"""

from __future__ import annotations

import os

import onnx

LARGE_FILE_BYTES = 1 << 24
"""Smaller files are read whole."""

PLACEHOLDER = os.urandom(16)
"""What a tensor holds, with a number behind it, where a weight is to be put back into a serialized model."""

_MARK = os.urandom(16).hex()
"""In place of a checksum, an entry that all readers of external data know. No file can carry it: every process draws its own."""


def is_cut_out(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's values belong into the model itself, although it says that they are external."""
    return len(tensor.external_data) > 0 and tensor.external_data[-1].value == _MARK


def refer(tensor: onnx.TensorProto, location: str = "", offset: int = 0, length: int = 0) -> None:
    """Makes `tensor` one that was cut out. One without a place is about to get new values."""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length, "checksum": _MARK}.items():
        tensor.external_data.add(key=key, value=str(value))


def restore(tensor: onnx.TensorProto, place: int) -> None:
    """Makes one that was cut out hold its values itself again: the placeholder of content number `place` (`bnfold.splice`)."""
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = PLACEHOLDER + place.to_bytes(8, "little")
