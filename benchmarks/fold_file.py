"""Lets one tool fold one file, with its defaults: python -m benchmarks.fold_file TOOL SOURCE DESTINATION

A process of its own, because a tool may die on a model, and because the peers live in an environment of theirs.
"""

from __future__ import annotations

import sys

import onnx

from benchmarks.pattern_tools import TOOLS


def main() -> None:
    """The command line."""
    tool, source, destination = sys.argv[1:]
    if tool == "bnfold":  # as users run it, but for the verification
        from bnfold import optimize

        optimize(source, destination, verify=False, freeze_initializers=True)
        return
    onnx.save(TOOLS[tool](onnx.load(source)), destination)


if __name__ == "__main__":
    main()
