"""Prints the operators that the reference covers: `python -m bnfold.runtime.reference`."""

from bnfold.runtime.reference.page import coverage

print(coverage(), end="")
