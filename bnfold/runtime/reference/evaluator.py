"""Runs a model in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bnfold.errors import BnfoldError, InputError
from bnfold.runtime.reference import standard
from bnfold.runtime.reference.call import Call, CannotEvaluate
from bnfold.runtime.reference.constants import Constants
from bnfold.runtime.reference.program import Program, Step, domain_of, function_program, graph_program, opsets_of, watching
from bnfold.runtime.reference.table import operator_of
from bnfold.runtime.reference.value import Array, Tensor, Value, elem_type_of, plain, tensor_of, typed


@dataclass(frozen=True)
class Evaluation:
    """What a model gives for one input.

    Attributes:
        outputs: graph output → value, floats as float64; a sequence is a list, the absent optional None.
        watched: name → value of the tensors that were asked for.
    """

    outputs: dict[str, Any]
    watched: dict[str, Array]


class Reference:
    """A model, evaluated in float64 without any runtime.

    Inputs and weights are taken exactly and casts between float types do nothing, so that what comes out is what the network
    computes in real arithmetic, up to float64's own rounding. Integers, booleans, quantization and casts to them are exact.

    Args:
        proto: the model; external data is read from `folder`, tensor by tensor.
        folder: where its external data lies.
    """

    def __init__(self, proto: onnx.ModelProto, folder: Path | None = None) -> None:
        self._proto = proto
        self._constants = Constants()
        self._functions = {_function_key(each): function_program(each, folder) for each in proto.functions}
        self._program = graph_program(proto.graph, opsets_of(proto), folder)

    def run(self, feed: Mapping[str, Any], watch: Iterable[str] = ()) -> Evaluation:
        """Evaluates the model.

        Args:
            feed: input name → array, list of arrays (a sequence) or None (an absent optional). Initializers that are inputs may
                be fed as well.
            watch: tensors of the main graph whose values are wanted beside the outputs.

        Raises:
            InputError: an input is missing.
            CannotEvaluate: a node is beyond the reference, does not fit its inputs, or needs more memory than there is; nothing
                makes a watched tensor.
        """
        watched = sorted(set(watch))
        program = watching(self._program, watched) if watched else self._program
        frame = Frame(program, None, {}, self._fed(program, feed))
        with np.errstate(all="ignore"):
            results = self._run(frame)
            seen = {name: frame.find(name, self._constants) for name in watched}
        outputs = {name: plain(value) for name, value in zip(program.outputs, results, strict=True)}
        return Evaluation(outputs, {name: value.array for name, value in seen.items() if isinstance(value, Tensor)})

    def _fed(self, program: Program, feed: Mapping[str, Any]) -> dict[str, Value]:
        declared = {each.name: each.type for each in self._proto.graph.input}
        missing = [name for name in program.inputs if name not in feed and name not in program.constants]
        missing = [name for name in missing if not declared[name].HasField("optional_type")]
        if missing:
            raise InputError(f"the model needs the input `{missing[0]}`, which was not given.")
        values: dict[str, Value] = {name: None for name in program.inputs if name not in program.constants}
        for name, value in feed.items():
            elem_type = declared[name].tensor_type.elem_type if name in declared else 0
            values[name] = _value(value, elem_type or None)
        return values

    def _run(self, frame: Frame) -> list[Value]:
        for step in frame.program.steps:
            inputs = [frame.find(name, self._constants) if name else None for name in step.inputs]
            attributes = {**step.attributes, **_referred(step, frame.given)}
            results = self._results(step, frame, inputs, attributes)
            frame.values.update((name, value) for name, value in zip(step.outputs, results, strict=False) if name)
            del inputs, results
            for name in step.drops:
                frame.values.pop(name, None)
        return [frame.find(name, self._constants) if name else None for name in frame.program.outputs]

    def _called(self, function: Program, inputs: list[Value], attributes: dict[str, Any]) -> list[Value]:
        values = dict(zip(function.inputs, [*inputs, *[None] * len(function.inputs)], strict=False))
        return self._run(Frame(function, None, {**function.defaults, **attributes}, values))

    def _standard(self, step: Step, inputs: list[Value], attributes: dict[str, Any]) -> list[Value]:
        body = standard.body_of(Call(step.key[1], attributes, step.opset), inputs, step.outputs)
        defaults = standard.defaults_of(step.key[1], step.opset)
        return self._called(function_program(body, None), inputs, {**defaults, **attributes})

    def _results(self, step: Step, frame: Frame, inputs: list[Value], attributes: dict[str, Any]) -> Sequence[Value]:
        function = self._functions.get((*step.key, step.overload))
        if function is not None:
            return self._called(function, inputs, attributes)
        operator = operator_of(step.key, step.opset)
        if operator is None and not step.key[0] and standard.is_defined(step.key[1], step.opset):
            return self._standard(step, inputs, attributes)
        if operator is None:
            raise CannotEvaluate(f"{step.label}: the operator is beyond the float64 reference")

        def run_body(name: str, given: Sequence[Value]) -> list[Value]:
            body = step.bodies[name]
            return self._run(Frame(body, frame, frame.given, dict(zip(body.inputs, given, strict=True))))

        call = Call(step.key[1], attributes, step.opset, len(step.outputs), run_body, step.bodies)
        try:
            return _values(operator(call, *inputs), inputs)
        except BnfoldError:
            raise
        except MemoryError:
            raise CannotEvaluate(f"{step.label}: its float64 values do not fit into memory") from None
        except Exception as error:  # numpy says in many ways that shapes or types do not fit
            raise CannotEvaluate(f"{step.label} cannot be evaluated: {error or type(error).__name__}") from error


@dataclass(frozen=True, eq=False)
class Frame:
    """The values of a graph or function while it runs.

    Attributes:
        program: what runs.
        outer: the surrounding graph's frame; None for the main graph and for functions.
        given: attributes of the surrounding function.
        values: name → value.
    """

    program: Program
    outer: Frame | None
    given: Mapping[str, Any]
    values: dict[str, Value] = field(default_factory=dict)

    def find(self, name: str, constants: Constants) -> Value:
        """The value of a name, from here or from what surrounds it."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.values:
                return frame.values[name]
            if name in frame.program.constants:
                return constants.read(frame.program.constants[name])
            frame = frame.outer
        raise CannotEvaluate(f"no node of the graph makes `{name}`")


def _function_key(function: onnx.FunctionProto) -> tuple[str, str, str]:
    return domain_of(function.domain), function.name, function.overload


def _referred(step: Step, given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[reference] for name, reference in step.references.items() if reference in given}


def _value(value: Any, elem_type: int | None) -> Value:
    if value is None or isinstance(value, Tensor):
        return value
    if isinstance(value, list):
        return [_value(each, None) for each in value]
    array = np.asarray(value)
    return tensor_of(array, elem_type if elem_type is not None else elem_type_of(array))


def _values(result: Any, inputs: Sequence[Value]) -> list[Value]:
    """An operator's result as values: a bare array has the type of the first tensor among the inputs."""
    if not isinstance(result, tuple) or isinstance(result, Tensor):
        result = (result,)
    known = next((each.elem_type for each in inputs if isinstance(each, Tensor)), None)
    return [_as_value(each, known) for each in result]


def _as_value(result: Any, known: int | None) -> Value:
    if result is None or isinstance(result, Tensor | list):
        return result
    array = np.asarray(result)
    return typed(array, known) if known is not None else tensor_of(array)
