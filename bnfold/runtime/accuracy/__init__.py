"""Labelled accuracy: how well two models decide on the same data, and whether that is known well enough to bet on it."""

from bnfold.runtime.accuracy.result import Accuracy
from bnfold.runtime.accuracy.run import accuracy

__all__ = ["Accuracy", "accuracy"]
