"""Runs one tool on models, one after the other, and judges what came out. `benchmarks/patterns.py` starts it as a process.

    python -m benchmarks.pattern_tools TOOL    reads groups and names from stdin, writes one JSON document a line to stdout

It is a process of its own because a tool may die on a model, and take down whoever called it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx

from benchmarks.pattern_rows import GROUPS, Pattern

MAPS = {"Add", "Div", "Mul", "Neg", "Pow", "QLinearAdd", "QLinearMul", "Reciprocal", "Sqrt", "Sub", "Sum"}
"""Element-wise arithmetic that a normalization is written in, under the names that the tools give it."""

LINEAR = {
    "Conv", "ConvInteger", "ConvTranspose", "DynamicQuantizeMatMul", "FusedConv", "FusedGemm", "FusedMatMul",
    "FusedMatMulActivation", "Gemm", "MatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "NhwcConv",
    "NhwcFusedConv", "QGemm", "QLinearConv", "QLinearMatMul", "TransposeMatMul",
}  # fmt: skip
"""Linear operators, under the names that the tools give them."""

TOLERANCE = {"bfloat16": 2e-1, "float16": 2e-2, "int4": 2e-2, "int8": 2e-2, "uint8": 2e-2, "float": 1e-4, "double": 1e-9}
"""Coarsest type of a pattern → largest difference, relative to the largest output, that counts as rounding. Where weights are
quantized onnxruntime may quantize the data as well, which has nothing to do with a fold; a wrong fold is off by much more."""


# -- the tools --------------------------------------------------------------------------------------------------------


def _bnfold(model: onnx.ModelProto) -> onnx.ModelProto:
    import bnfold

    folded: onnx.ModelProto = bnfold.fold(model).model
    return folded


def _onnxruntime(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "optimized.onnx")
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = path
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


def _onnxsim(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxsim

    simplified: onnx.ModelProto = onnxsim.simplify(model)[0]
    return simplified


def _onnxslim(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    slimmed: onnx.ModelProto = onnxslim.slim(model)
    return slimmed


def _onnxoptimizer(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxoptimizer

    optimized: onnx.ModelProto = onnxoptimizer.optimize(model)
    return optimized


def _onnxscript(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxscript import optimizer, rewriter

    rewritten: onnx.ModelProto = rewriter.rewrite(optimizer.optimize(model))
    return rewritten


TOOLS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "bnfold": _bnfold,
    "onnxruntime": _onnxruntime,
    "onnxsim": _onnxsim,
    "onnxslim": _onnxslim,
    "onnxoptimizer": _onnxoptimizer,
    "onnxscript": _onnxscript,
}


# -- the judge --------------------------------------------------------------------------------------------------------


def measure(tool: str, pattern: Pattern) -> dict[str, str]:
    """The outcome of one tool on one pattern, and in `detail` what makes it so.

    `folds`, `keeps` and `wrong` are about a model that came out and runs, `invalid` is one that does not, and `errors` means that
    the tool raised. That it died, or took too long, only the caller can tell.
    """
    model = pattern.model()
    given = onnx.ModelProto.FromString(model.SerializeToString())  # a tool may edit what it is given
    try:
        result = TOOLS[tool](given)
    except Exception as error:
        return _outcome("errors", _first_line(error))
    try:
        loaded = _Runner(pattern, result)
    except Exception as error:
        return _outcome("invalid", _first_line(error))
    try:
        found = _difference(_Runner(pattern, model), loaded, pattern)
    except _DoesNotRun as error:
        return _outcome("invalid", str(error))
    if found:
        return _outcome("wrong", found)
    left = _what_stays(model, result, pattern)
    return _outcome("keeps" if left else "folds", left)


def _outcome(outcome: str, detail: str) -> dict[str, str]:
    return {"outcome": outcome, "detail": detail}


def _first_line(error: Exception) -> str:
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {re.sub(r'0x[0-9a-f]+', '0x…', text)}"[:200]


class _DoesNotRun(Exception):
    """A result loads, and raises when it is run."""


class _Runner:
    """Runs a model with all optimizations of onnxruntime disabled, or in float64 where onnxruntime has no kernel for the pattern.

    A result of onnxruntime itself may hold operators of its own, which nothing else can run.
    """

    def __init__(self, pattern: Pattern, model: onnx.ModelProto) -> None:
        self._model = model
        self._session: Any = None
        if not pattern.kernel and _only_onnx(model):
            onnx.checker.check_model(model)
            return
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    @property
    def inputs(self) -> set[str]:
        """What can be fed, overridable initializers among it."""
        if self._session is None:
            return {each.name for each in self._model.graph.input}
        told = [*self._session.get_inputs(), *self._session.get_overridable_initializers()]
        return {each.name for each in told}

    @property
    def outputs(self) -> list[str]:
        return [each.name for each in self._model.graph.output]

    def __call__(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        if self._session is not None:
            return [np.asarray(each) for each in self._session.run(self.outputs, feed)]
        from tests.reference import evaluate

        results = evaluate(self._model, feed)
        return [results[name] for name in self.outputs]


def _only_onnx(model: onnx.ModelProto) -> bool:
    local = {each.domain for each in model.functions}
    return all(node.domain in ("", "ai.onnx", *local) for node in model.graph.node)


def _difference(reference: _Runner, candidate: _Runner, pattern: Pattern) -> str:
    """What is wrong with the candidate; "" where it computes the same."""
    if candidate.outputs != reference.outputs:
        return f"its outputs are {candidate.outputs} instead of {reference.outputs}"
    for feed in pattern.feeds():
        missing = sorted(set(feed) - candidate.inputs)
        if missing:
            return f"it no longer takes the input {', '.join(missing)}"
        try:
            results = candidate(feed)
        except Exception as error:
            raise _DoesNotRun(f"it loads, but does not run: {_first_line(error)}") from error
        for name, expected, found in zip(reference.outputs, reference(feed), results, strict=True):
            if expected.shape != found.shape:
                return f"`{name}` has the shape {list(found.shape)} instead of {list(expected.shape)}"
            distance = _distance(expected, found)
            if not distance <= _tolerance(pattern):
                return f"`{name}` is off by {distance:.2g} of its largest value"
    return ""


def _distance(expected: np.ndarray, found: np.ndarray) -> float:
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    if not np.array_equal(np.isfinite(expected), np.isfinite(found)):
        return float("inf")
    finite = np.isfinite(expected)
    size = np.max(np.abs(expected[finite]), initial=0.0) or 1.0
    return float(np.max(np.abs(expected[finite] - found[finite]), initial=0.0) / size)


def _tolerance(pattern: Pattern) -> float:
    kinds = {each.dtype for each in (*pattern.inputs, *pattern.weights)}
    return next(limit for kind, limit in TOLERANCE.items() if kind in kinds)


def _what_stays(model: onnx.ModelProto, result: onnx.ModelProto, pattern: Pattern) -> str:
    """What the result holds that the best result does not; "" for nothing."""
    before, after = _counted(model), _counted(result)
    linear = before["linear"] if pattern.linear is None else pattern.linear
    allowed = {"BatchNormalization": 0, "maps": pattern.maps, "linear": linear}
    words = {"BatchNormalization": "BatchNormalization", "maps": "element-wise", "linear": "linear"}
    return ", ".join(f"{after[kind]} {words[kind]}" for kind in allowed if after[kind] > allowed[kind])


def _counted(model: onnx.ModelProto) -> dict[str, int]:
    ops = list(_data_ops(model))
    return {
        "BatchNormalization": sum(op == "BatchNormalization" for op in ops),
        "maps": sum(op in MAPS for op in ops),
        "linear": sum(op in LINEAR for op in ops),
    }


def _data_ops(model: onnx.ModelProto) -> Iterator[str]:
    """The operators, over all scopes, whose result depends on what the caller feeds. A computed constant is none."""
    overridable = {each.name for each in model.graph.initializer} if model.ir_version < 4 else set()
    fed = {each.name for each in model.graph.input} - overridable
    functions = {(each.domain, each.name): each for each in model.functions}
    yield from _data_nodes(model.graph.node, fed, functions)


def _data_nodes(nodes: Any, fed: set[str], functions: dict[tuple[str, str], onnx.FunctionProto]) -> Iterator[str]:
    for node in nodes:
        bodies = [each.g for each in node.attribute if each.type == onnx.AttributeProto.GRAPH]
        read = node.input[:1] if node.op_type == "CastLike" else node.input
        if node.op_type in ("Shape", "Size") or (not bodies and not fed & set(read)):
            continue
        fed.update(node.output)
        called = functions.get((node.domain, node.op_type))
        if called is not None:
            handed = {mine for mine, theirs in zip(called.input, node.input, strict=False) if theirs in fed}
            yield from _data_nodes(called.node, handed, functions)
            continue
        yield node.op_type
        for body in bodies:
            yield from _data_nodes(body.node, fed | {each.name for each in body.input}, functions)


def main() -> None:
    """Serves the patterns that are named on stdin, as JSON lists of a group and a name."""
    patterns = {(title, each.name): each for title, group in GROUPS.items() for each in group}
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some tools print
    for line in sys.stdin:
        title, name = json.loads(line)
        print(json.dumps(measure(sys.argv[1], patterns[title, name])), file=answers, flush=True)


if __name__ == "__main__":
    main()
