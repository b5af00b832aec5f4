"""A graph made ready to run: nodes in order, without those that nobody needs, and what can be dropped after each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from bnfold.errors import InputError
from bnfold.runtime.reference.constants import Constant, dense
from bnfold.runtime.reference.value import Tensor
from bnfold.weights import Stored

_Kind = onnx.AttributeProto


@dataclass(frozen=True, eq=False)
class Step:
    """One node.

    Attributes:
        label: what messages call it.
        key: domain and operator type; the domain of ONNX itself is "".
        overload: which of the local functions of that name.
        opset: version of the domain.
        inputs: names, "" for an absent one.
        outputs: names, "" for one that is not asked for.
        attributes: name → decoded value.
        references: attribute → the attribute of the surrounding function that it takes its value from.
        bodies: attribute → graph.
        drops: names that nobody needs afterwards.
    """

    label: str
    key: tuple[str, str]
    overload: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    references: Mapping[str, str]
    bodies: Mapping[str, Program]
    drops: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Program:
    """A graph or a function.

    Attributes:
        inputs: names.
        outputs: names, "" for one that a function does not make.
        constants: initializers and Constant nodes.
        nodes: all other nodes, in the order of the file.
        steps: those of them that are needed, in an order in which they can run.
        reads: names from outside, which are the surrounding graph's.
        declared: for each output of a graph its element type (0 if unknown) and its extents (0 where unknown).
        defaults: a function's attributes that have a default.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant]
    nodes: tuple[Step, ...]
    steps: tuple[Step, ...] = ()
    reads: frozenset[str] = frozenset()
    declared: tuple[tuple[int, tuple[int, ...]], ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)


def graph_program(graph: onnx.GraphProto, opsets: Mapping[str, int], folder: Path | None) -> Program:
    """Prepares a graph."""
    constants: dict[str, Constant] = {tensor.name: Stored(tensor, folder) for tensor in graph.initializer}
    constants |= {sparse.values.name: dense(sparse, folder) for sparse in graph.sparse_initializer}
    inputs, outputs = [each.name for each in graph.input], [each.name for each in graph.output]
    program = _program(graph.node, inputs, outputs, constants, opsets, folder)
    return replace(program, declared=tuple(_declared(each) for each in graph.output))


def function_program(function: onnx.FunctionProto, folder: Path | None) -> Program:
    """Prepares a local function."""
    made = {*function.input, *(name for node in function.node for name in node.output)}
    outputs = [name if name in made else "" for name in function.output]
    program = _program(function.node, function.input, outputs, {}, opsets_of(function), folder)
    return replace(program, defaults={each.name: decoded(each, folder) for each in function.attribute_proto})


def watching(program: Program, watch: Collection[str]) -> Program:
    """The same, with what `watch` needs as well, and with the tensors in it kept to the end."""
    keep = {*program.outputs, *watch} - {""}
    ordered = _ordered(program.nodes, keep)
    made = {*program.inputs, *program.constants, *(name for step in ordered for name in step.outputs)}
    reads = {name for step in ordered for name in _reads(step)} | keep
    return replace(program, steps=_with_drops(ordered, keep, program.inputs), reads=frozenset(reads - made))


def opsets_of(proto: onnx.ModelProto | onnx.FunctionProto) -> dict[str, int]:
    """Domain → version; a model that names none uses opset 1."""
    return {"": 1} | {domain_of(each.domain): each.version for each in proto.opset_import}


def domain_of(name: str) -> str:
    """The domain's name; ONNX's own has two."""
    return "" if name == "ai.onnx" else name


def _program(
    nodes: Iterable[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    constants: dict[str, Constant],
    opsets: Mapping[str, int],
    folder: Path | None,
) -> Program:
    steps = []
    for node in nodes:
        if (stored := _stored_constant(node, folder)) is not None:
            constants[node.output[0]] = stored
        else:
            steps.append(_step(node, opsets, folder))
    return watching(Program(tuple(inputs), tuple(outputs), constants, tuple(steps)), ())


def _step(node: onnx.NodeProto, opsets: Mapping[str, int], folder: Path | None) -> Step:
    domain = domain_of(node.domain)
    inputs, outputs = list(node.input), list(node.output)
    for names in (inputs, outputs):
        while names and not names[-1]:
            names.pop()
    given = [each for each in node.attribute if not each.ref_attr_name]
    return Step(
        label=f"{node.op_type} `{node.name or next(filter(None, outputs), '')}`",
        key=(domain, node.op_type),
        overload=node.overload,
        opset=opsets.get(domain, 1),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        attributes={each.name: decoded(each, folder) for each in given if each.type != _Kind.GRAPH},
        references={each.name: each.ref_attr_name for each in node.attribute if each.ref_attr_name},
        bodies={each.name: graph_program(each.g, opsets, folder) for each in given if each.type == _Kind.GRAPH},
    )


def _stored_constant(node: onnx.NodeProto, folder: Path | None) -> Constant | None:
    """What a Constant node holds, if it holds a tensor: read when it is needed, as an initializer is."""
    if node.op_type != "Constant" or domain_of(node.domain) or len(node.attribute) != 1 or node.attribute[0].ref_attr_name:
        return None
    (attribute,) = node.attribute
    if attribute.type == _Kind.SPARSE_TENSOR:
        return dense(attribute.sparse_tensor, folder)
    return Stored(attribute.t, folder) if attribute.type == _Kind.TENSOR else None


def decoded(attribute: onnx.AttributeProto, folder: Path | None = None) -> Any:
    """An attribute's value: strings as str, a tensor as `Tensor`."""
    if attribute.type == _Kind.TENSOR:
        stored = Stored(attribute.t, folder)
        return Tensor(stored.values(), stored.elem_type)
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == _Kind.STRING:
        return _text(value)
    return [_text(each) for each in value] if attribute.type == _Kind.STRINGS else value


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _declared(value: onnx.ValueInfoProto) -> tuple[int, tuple[int, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim)


def _reads(step: Step) -> list[str]:
    return [*filter(None, step.inputs), *(name for body in step.bodies.values() for name in body.reads)]


def _ordered(steps: Sequence[Step], wanted: Collection[str]) -> list[Step]:
    """The steps that `wanted` needs, each behind those it reads from, and else in the order of the file."""
    maker = {name: place for place, step in enumerate(steps) for name in step.outputs if name}
    needed: set[int] = set()
    pending = [maker[name] for name in wanted if name in maker]
    while pending:
        place = pending.pop()
        if place not in needed:
            needed.add(place)
            pending += [maker[name] for name in _reads(steps[place]) if name in maker]
    ordered: dict[int, Step] = {}
    for first in sorted(needed):
        stack = [first]
        while stack:
            top = stack[-1]
            missing = [maker[name] for name in _reads(steps[top]) if name in maker and maker[name] not in ordered]
            if top in ordered or not missing:
                ordered[stack.pop()] = steps[top]
            elif len(stack) > len(steps):
                raise InputError(f"{steps[top].label} needs its own result: the graph runs in a circle.")
            else:
                stack += missing
    return list(ordered.values())


def _with_drops(steps: Sequence[Step], keep: Collection[str], inputs: Sequence[str]) -> tuple[Step, ...]:
    last: dict[str, int] = {}
    for place, step in enumerate(steps):
        last |= dict.fromkeys((*_reads(step), *filter(None, step.outputs)), place)
    local = {*inputs, *(name for step in steps for name in step.outputs)} - set(keep)
    drops: dict[int, list[str]] = {}
    for name, place in last.items():
        if name in local:
            drops.setdefault(place, []).append(name)
    return tuple(replace(step, drops=tuple(drops.get(place, ()))) for place, step in enumerate(steps))
