"""Labelled data sets, read as a stream: memory does not grow with their size.

    from bnfold.data import open_data
    data = open_data("fashion_mnist:idx-test", "mnist")
    for batch in data.batches(64):
        batch.inputs[""], batch.labels     # float32 [64, 1, 28, 28], int64 [64]

docs/accuracy.md lists the formats and how preprocessing is stated.
"""

from bnfold.data.dataset import Batch, Data
from bnfold.data.spec import FORMATS, open_data, open_iterable

__all__ = ["FORMATS", "Batch", "Data", "open_data", "open_iterable"]
