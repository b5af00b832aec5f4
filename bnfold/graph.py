"""The view: a model as onnx-graphsurgeon graphs, every node linked to the proto it came from.

Rules look at the view, and folds edit it. `bnfold.apply` then writes the edits, and nothing else, back into the ModelProto.

The graphs are built here rather than with `gs.import_onnx`, which drops doc strings, metadata, unused and overridable
initializers, and raises on empty list attributes, binary strings and optional inputs (onnx-graphsurgeon 0.6.1). Attributes
stay in the proto: the view reads them there. Its objects are compared by identity only, since `==` of a gs object compares
names, and who makes and who reads a tensor is asked of the view (`View.producer`, `View.readers`): a gs tensor's own lists take
time to keep, and tie nodes and tensors into circles that only the garbage collector can free. The view's tensors have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from bnfold.errors import InputError
from bnfold.naming import Names
from bnfold.operators import DEFAULT_DOMAINS, default_opset
from bnfold.protos import is_sorted
from bnfold.weights import Computed, Stored, Weight

GraphLike: TypeAlias = onnx.GraphProto | onnx.FunctionProto

_ATTRIBUTE_TYPES = {
    int: onnx.AttributeProto.INT,
    float: onnx.AttributeProto.FLOAT,
    bytes: onnx.AttributeProto.STRING,
    tuple: onnx.AttributeProto.INTS,
}


@dataclass(eq=False)
class Scope:
    """One graph of the model: the main graph, a body of If, Loop or Scan, or a local function.

    Attributes:
        name: "" for the main graph, "if_1/then_branch" for a body, "function domain::name" for a function.
        proto: what the view was made from.
        graph: the onnx-graphsurgeon graph.
        opset: version of the default domain in force here.
        parent: the scope around a body; None for the main graph and functions.
        tensors: every tensor defined here, by name.
    """

    name: str
    proto: GraphLike
    graph: gs.Graph
    opset: int
    parent: Scope | None
    tensors: dict[str, gs.Tensor] = field(default_factory=dict)

    @property
    def is_function(self) -> bool:
        """Whether this is a local function, which can hold no initializers."""
        return isinstance(self.proto, onnx.FunctionProto)

    def resolve(self, name: str) -> gs.Tensor | None:
        """The tensor that `name` means here, looking outwards."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.tensors:
                return scope.tensors[name]
            scope = scope.parent
        return None


class View:
    """All scopes of a model and what is known of their nodes and tensors.

    Args:
        proto: the model; not changed by the view.
        folder: where its external data lies.
        freeze_initializers: treat initializers that are also graph inputs as constants.

    Raises:
        InputError: a name is read that nothing defines, or is defined twice.
    """

    def __init__(self, proto: onnx.ModelProto, folder: Path | None = None, freeze_initializers: bool = False) -> None:
        self.proto = proto
        self.folder = folder
        self.freeze_initializers = freeze_initializers
        self.scopes: list[Scope] = []
        self.overridable: set[int] = set()
        self.escaping: set[int] = set()
        self.removed: set[int] = set()
        self.released: dict[int, gs.Tensor] = {}
        self.replaced: set[int] = set()
        self.inserted: dict[int, list[gs.Node]] = {}
        self.appended: dict[int, list[gs.Node]] = {}
        self.attribute_edits: dict[int, dict[str, Any]] = {}
        self._protos: dict[int, onnx.NodeProto] = {}
        self._attributes: dict[int, dict[str, onnx.AttributeProto]] = {}
        self._homes: dict[int, Scope] = {}
        self._weights: dict[int, Weight] = {}
        self._makers: dict[int, gs.Node] = {}
        self._references: dict[int, str] = {}
        self._functions = {(function.domain, function.name) for function in proto.functions}
        self._origins: dict[int, gs.Tensor] = {}
        self._readers: dict[int, dict[int, gs.Node]] = {}
        self._new: dict[int, gs.Tensor] = {}
        self._put_in: set[int] = set()
        self.names = Names()
        opset = default_opset(proto.opset_import)
        self._add_scope("", proto.graph, opset, None)
        for function in proto.functions:
            name = f"function {function.domain}::{function.name}"
            self._add_scope(name, function, default_opset(function.opset_import) or opset, None)
        self._mark_names_used_elsewhere()
        if not opset and any(node.domain in DEFAULT_DOMAINS for node in proto.graph.node):
            raise InputError("the model is invalid: it does not say which opset its operators are of. Export it again.")

    # -- reading ------------------------------------------------------------------------------------------------------

    def op_type(self, node: gs.Node) -> str:
        """The ONNX operator name, or "domain::name" for anything that is not of the default domain."""
        domain = node.domain or ""
        if domain in DEFAULT_DOMAINS and (domain, node.op) not in self._functions:
            return str(node.op)
        return f"{domain}::{node.op}"

    def scope(self, node: gs.Node) -> Scope:
        """The scope that `node` stands in."""
        return self._homes[id(node)]

    def opset(self, node: gs.Node) -> int:
        """The default domain's version where `node` stands."""
        return self._homes[id(node)].opset

    def node_proto(self, node: gs.Node) -> onnx.NodeProto | None:
        """The proto that `node` was made from; None for a node that a fold put in."""
        return self._protos.get(id(node))

    def attribute(self, node: gs.Node, name: str, default: Any = None) -> Any:
        """The attribute's value, edits included; `default` where it is absent or set by the function's caller.

        Raises:
            InputError: it is of another type than `default`.
        """
        edits = self.attribute_edits.get(id(node))
        if edits is not None and name in edits:
            return edits[name]
        attribute = self._attributes_of(node).get(name)
        if attribute is None or attribute.ref_attr_name:
            return default
        if attribute.type != _ATTRIBUTE_TYPES.get(type(default), attribute.type):
            kind = onnx.AttributeProto.AttributeType.Name(attribute.type)
            raise InputError(f"the graph is invalid: attribute `{name}` of {describe(node)} is of type {kind}.")
        return onnx.helper.get_attribute_value(attribute)

    def _attributes_of(self, node: gs.Node) -> dict[str, onnx.AttributeProto]:
        known = self._attributes.get(id(node))
        if known is None:
            proto = self._protos.get(id(node))
            named = [(each.name, each) for each in proto.attribute] if proto is not None else []
            known = self._attributes[id(node)] = dict(reversed(named))  # the first of a name counts
        return known

    def attribute_reference(self, node: gs.Node) -> str:
        """The first attribute that takes its value from the enclosing function's attributes; "" where none does."""
        return self._references.get(id(node), "")

    def stored(self, tensor: gs.Tensor) -> Weight | None:
        """The weight that stands at `tensor` itself: an initializer, a Constant node's value or a folded weight."""
        return self._weights.get(id(tensor))

    def remember(self, tensor: gs.Tensor, weight: Weight) -> None:
        """Records what `tensor` was found to hold, so that it is evaluated once."""
        self._weights[id(tensor)] = weight

    def producer(self, tensor: gs.Tensor) -> gs.Node | None:
        """The node that makes `tensor`; None for graph inputs and initializers."""
        return self._makers.get(id(tensor))

    def readers(self, tensor: gs.Tensor) -> Iterator[gs.Node]:
        """The nodes that read `tensor` now, in any scope, once for each reading."""
        for node in list(self._readers.get(id(tensor), {}).values()):
            for each in node.inputs:
                if each is tensor:
                    yield node

    def is_read(self, tensor: gs.Tensor) -> bool:
        """Whether any node reads `tensor`, or the graph hands it out."""
        return id(tensor) in self.escaping or bool(self._readers.get(id(tensor)))

    def is_gone(self, tensor: gs.Tensor) -> bool:
        """Whether nothing makes `tensor` any more, and nothing reads it. An initializer is made by nothing from the start."""
        key = id(tensor)
        if self._readers.get(key) or key in self.escaping:
            return False
        maker = self._makers.get(key)
        return maker is None or id(maker) in self.removed

    def nodes(self) -> Iterator[gs.Node]:
        """Every node of every scope that is still there, in graph order, nodes that folds put in included."""
        for scope in self.scopes:
            yield from self.nodes_of(scope)

    def nodes_of(self, scope: Scope) -> Iterator[gs.Node]:
        """The nodes of one scope that are still there, in graph order."""
        for node in scope.graph.nodes:
            key = id(node)
            if key in self.inserted or key in self.appended:
                yield from self._with_inserted(node)
            elif key not in self.removed:
                yield node

    def _with_inserted(self, node: gs.Node) -> Iterator[gs.Node]:
        for before in self.inserted.get(id(node), ()):
            yield from self._with_inserted(before)
        if id(node) not in self.removed:
            yield node
        for behind in self.appended.get(id(node), ()):
            yield from self._with_inserted(behind)

    @property
    def is_edited(self) -> bool:
        """Whether a fold has changed anything: each one takes a node out."""
        return bool(self.removed)

    # -- editing ------------------------------------------------------------------------------------------------------

    def new_constant(self, weight: Weight, name: str, origin: gs.Tensor | None = None) -> gs.Constant:
        """A new constant, standing in for `origin` where it is given.

        `bnfold.apply` decides where it is stored and, unless it takes the place of `origin`, makes `name` unique.
        """
        tensor = _tensor(gs.Constant, name)
        self._weights[id(tensor)] = weight
        self._new[id(tensor)] = tensor
        if origin is not None:
            self._origins[id(tensor)] = self._origins.get(id(origin), origin)
        return tensor

    def is_new(self, tensor: gs.Tensor) -> bool:
        """Whether a fold made this constant."""
        return id(tensor) in self._new

    def new_constants(self) -> Iterator[gs.Constant]:
        """The constants that folds made and that are read."""
        return (tensor for key, tensor in self._new.items() if self._readers.get(key))

    def is_original(self, tensor: gs.Tensor) -> bool:
        """Whether the model had this tensor before anything was folded. What stands for an absent input or output is none."""
        return bool(tensor.name) and id(tensor) not in self._new and id(tensor) not in self._put_in

    def origin(self, tensor: gs.Tensor) -> gs.Tensor | None:
        """The model's own tensor that a new constant stands in for; None where there was none."""
        return self._origins.get(id(tensor))

    def new_variable(self, name: str) -> gs.Variable:
        """A new tensor for a node that a fold puts in."""
        made = _tensor(gs.Variable, self.names.fresh(name))
        self._put_in.add(id(made))
        return made

    def set_input(self, node: gs.Node, index: int, tensor: gs.Tensor) -> None:
        """Makes `node` read `tensor` as input `index`, appending empty inputs up to it."""
        while len(node.inputs) <= index:
            node.inputs.append(_tensor(gs.Variable, ""))
        former = node.inputs[index]
        node.inputs[index] = tensor
        if place_of(former, node.inputs) is None:
            self._no_longer_reads(node, former)
        self.released[id(former)] = former
        self._reads(node, tensor)

    def set_attribute(self, node: gs.Node, name: str, value: Any) -> None:
        """Sets an attribute."""
        self.attribute_edits.setdefault(id(node), {})[name] = value

    def insert_before(self, anchor: gs.Node, op_type: str, inputs: list[gs.Tensor], output: gs.Tensor) -> gs.Node:
        """Puts a new node of the default domain in front of `anchor`."""
        node = self._new_node(anchor, op_type, inputs, output)
        self.inserted.setdefault(id(anchor), []).append(node)
        return node

    def insert_behind(self, anchor: gs.Node, op_type: str, operand: gs.Tensor) -> gs.Node:
        """Puts a new node `op_type(x, operand)` behind the first output of `anchor`, under that output's name."""
        result = anchor.outputs[0]
        between = self.new_variable(f"{result.name}_before_{op_type.lower()}")
        anchor.outputs[0] = between
        self._makers[id(between)] = anchor
        node = self._new_node(anchor, op_type, [between, operand], result)
        self.appended.setdefault(id(anchor), []).insert(0, node)
        return node

    def _new_node(self, anchor: gs.Node, op_type: str, inputs: list[gs.Tensor], output: gs.Tensor) -> gs.Node:
        node = _node(op_type, "", "")
        node.inputs.extend(inputs)
        for tensor in inputs:
            self._reads(node, tensor)
        node.outputs.append(output)
        self._makers[id(output)] = node
        self._homes[id(node)] = self._homes[id(anchor)]
        return node

    def remove(self, node: gs.Node) -> None:
        """Takes `node` out; what it read and made is released."""
        self.removed.add(id(node))
        for tensor in node.inputs:
            self._no_longer_reads(node, tensor)
            self.released[id(tensor)] = tensor
        for tensor in node.outputs:
            self.released[id(tensor)] = tensor

    def _reads(self, node: gs.Node, tensor: gs.Tensor) -> None:
        self._readers.setdefault(id(tensor), {})[id(node)] = node

    def _no_longer_reads(self, node: gs.Node, tensor: gs.Tensor) -> None:
        readers = self._readers.get(id(tensor))
        if readers is not None:
            readers.pop(id(node), None)

    def bypass_backward(self, source: gs.Tensor, nodes: Sequence[gs.Node]) -> None:
        """Takes out a run of nodes that starts at `source`; what made that makes the run's result, under the result's name."""
        producer, result = self._makers.pop(id(source)), nodes[-1].outputs[0]
        for node in nodes:
            self.remove(node)
        place = place_of(source, producer.outputs)
        assert place is not None
        producer.outputs[place] = result
        self._makers[id(result)] = producer
        self._reread(source, result)  # a CastLike may read its type

    def bypass_forward(self, source: gs.Tensor, nodes: Sequence[gs.Node]) -> None:
        """Takes out a run of nodes that starts at `source`; what read the run's result reads `source`."""
        for node in nodes:
            self.remove(node)
        self._reread(nodes[-1].outputs[0], source)

    def _reread(self, old: gs.Tensor, new: gs.Tensor) -> None:
        for node in list(self._readers.get(id(old), {}).values()):
            for index, each in enumerate(node.inputs):
                if each is old:
                    self.set_input(node, index, new)

    # -- building -----------------------------------------------------------------------------------------------------

    def _add_scope(self, name: str, proto: GraphLike, opset: int, parent: Scope | None) -> Scope:
        scope = Scope(name, proto, gs.Graph(name=proto.name, opset=opset), opset, parent)
        self.scopes.append(scope)
        if isinstance(proto, onnx.GraphProto):
            self._add_initializers(scope, proto)
        inputs = [value if isinstance(value, str) else value.name for value in proto.input]
        twice = next((name for name, count in Counter(inputs).items() if count > 1), None)
        if twice is not None:
            raise InputError(f"the graph is invalid: `{twice}` is an input twice{_in(scope)}. Export it again.")
        scope.graph.inputs = [self._input(scope, each) for each in inputs]
        for node_proto in proto.node:
            self._add_node(scope, node_proto)
        for node in scope.graph.nodes:
            self._link(scope, node)
        if not is_sorted(proto):
            self._refuse_circles(scope)
        for value in proto.output:
            self._add_output(scope, value if isinstance(value, str) else value.name)
        return scope

    def _input(self, scope: Scope, name: str) -> gs.Tensor:
        return scope.tensors[name] if name in scope.tensors else self._define(scope, name, "an input")

    def _add_initializers(self, scope: Scope, proto: onnx.GraphProto) -> None:
        inputs = {value.name for value in proto.input}
        # Since IR 4 a caller may override an initializer that is also an input; before it, all had to be inputs and
        # none could be (onnx/docs/IR.md, "Graphs").
        overridable = inputs if self.proto.ir_version >= 4 and not self.freeze_initializers else set()
        for tensor in proto.initializer:
            if tensor.name in overridable:
                self.overridable.add(id(self._define(scope, tensor.name, "an initializer")))
                continue
            weight = Stored(tensor, self.folder)
            constant = _tensor(gs.Constant, tensor.name)
            self._define(scope, constant.name, "an initializer", constant)
            self._weights[id(constant)] = weight
        for sparse in proto.sparse_initializer:
            self._define(scope, sparse.values.name, "a sparse initializer")

    def _add_node(self, scope: Scope, proto: onnx.NodeProto) -> None:
        op_type, name, outputs = proto.op_type, proto.name, proto.output
        if not isinstance(name, str):
            raise _not_text(name, op_type, scope)
        # Folds move outputs, so a node without a name goes by its output's name as the file has it.
        node = _node(op_type, name or next(iter(outputs), ""), proto.domain)
        scope.graph.nodes.append(node)
        self._protos[id(node)] = proto
        self._homes[id(node)] = scope
        for each in outputs:
            output = self._define(scope, each, node) if each else _tensor(gs.Variable, "")
            node.outputs.append(output)
            self._makers[id(output)] = node
        if op_type == "Constant" and node.domain in DEFAULT_DOMAINS and node.outputs:
            weight = constant_value(proto, self.folder)
            if weight is not None:
                self._weights[id(node.outputs[0])] = weight

    def _link(self, scope: Scope, node: gs.Node) -> None:
        proto = self._protos[id(node)]
        tensors, inputs, readers, key = scope.tensors, node.inputs, self._readers, id(node)
        for name in proto.input:
            tensor = tensors.get(name) or (scope.resolve(name) if name else _tensor(gs.Variable, ""))
            if tensor is None:
                raise self._unresolved(scope, node, name)
            inputs.append(tensor)
            readers.setdefault(id(tensor), {})[key] = node
        for attribute in proto.attribute:
            if not isinstance(attribute.name, str):
                raise _not_text(attribute.name, node.op, scope)
            if attribute.ref_attr_name:
                self._references.setdefault(key, attribute.name)
            for place, body in enumerate(bodies_of(attribute)):
                suffix = f"[{place}]" if attribute.graphs else ""
                name = f"{proto.name or proto.op_type}/{attribute.name}{suffix}"
                path = f"{scope.name}/{name}" if scope.name else name
                node.attrs[attribute.name + suffix] = self._add_scope(path, body, scope.opset, scope).graph

    def _refuse_circles(self, scope: Scope) -> None:
        nodes = {id(node): node for node in scope.graph.nodes}
        makers = {key: [self._makers.get(id(tensor)) for tensor in node.inputs] for key, node in nodes.items()}
        before = {
            key: [id(maker) for maker in found if maker is not None and id(maker) in nodes] for key, found in makers.items()
        }
        try:
            TopologicalSorter(before).prepare()
        except CycleError as error:
            circle = " → ".join(describe(nodes[key]) for key in reversed(error.args[1]))
            raise InputError(f"the graph is invalid: {circle} is a circle{_in(scope)}. Export it again.") from error

    def _unresolved(self, scope: Scope, node: gs.Node, name: str) -> InputError:
        if not isinstance(name, str):
            return _not_text(name, node.op, scope)
        return InputError(
            f"the graph is invalid: node {describe(node)} reads `{name}`, which is neither an input, an "
            f"initializer nor the output of a node{_in(scope)}. Export the model again."
        )

    def _add_output(self, scope: Scope, name: str) -> None:
        tensor = scope.resolve(name)
        if tensor is None:
            raise InputError(f"the graph is invalid: nothing makes the output `{name}`{_in(scope)}. Export it again.")
        scope.graph.outputs.append(tensor)
        self.escaping.add(id(tensor))

    def _define(self, scope: Scope, name: str, by: str | gs.Node, tensor: gs.Tensor | None = None) -> gs.Tensor:
        if not isinstance(name, str):
            raise InputError(
                f"the graph is invalid: the name {name!r} of {_maker(by)}{_in(scope)} is not UTF-8. Export it again."
            )
        if name in scope.tensors:
            raise InputError(f"the graph is invalid: `{name}` is defined again by {_maker(by)}{_in(scope)}. Export it again.")
        made = scope.tensors[name] = _tensor(gs.Variable, name) if tensor is None else tensor
        self.names.add(name)
        return made

    def _mark_names_used_elsewhere(self) -> None:
        # A training algorithm names initializers of the main graph and updates them, and quantization annotations name the
        # tensors that hold their parameters: neither may change under them.
        main = self.scopes[0]
        for scope in self.scopes:
            for note in scope.proto.quantization_annotation if isinstance(scope.proto, onnx.GraphProto) else ():
                used = {entry.value for entry in note.quant_parameter_tensor_names}
                self.escaping |= {id(scope.tensors[name]) for name in used if name in scope.tensors}
        for info in self.proto.training_info:
            names = {entry.key for entry in (*info.update_binding, *info.initialization_binding)}
            for graph in (info.algorithm, info.initialization):
                names |= set(_names_read(graph))
            self.escaping |= {id(main.tensors[name]) for name in names if name in main.tensors}


def _names_read(graph: onnx.GraphProto) -> Iterator[str]:
    pending = [graph]
    while pending:
        graph = pending.pop()
        for node in graph.node:
            yield from node.input
            for attribute in node.attribute:
                pending += [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs


def place_of(tensor: gs.Tensor, tensors: Sequence[gs.Tensor]) -> int | None:
    """Where `tensor` first stands among `tensors`; None where it does not. `list.index` would compare names."""
    for index, each in enumerate(tensors):
        if each is tensor:
            return index
    return None


def optional_input(node: gs.Node, index: int) -> gs.Tensor | None:
    """The tensor at input `index`; None where it is absent or an empty name."""
    if len(node.inputs) <= index or node.inputs[index].is_empty():
        return None
    return node.inputs[index]


def describe(node: gs.Node) -> str:
    """ "Conv `conv1`", or the first output's name for a node that has none."""
    return f"{node.op} `{node.name or next((each.name for each in node.outputs), '')}`"


def constant_value(proto: onnx.NodeProto, folder: Path | None = None) -> Weight | None:
    """What a Constant node holds; None for strings and sparse values."""
    for attribute in proto.attribute:
        if attribute.name == "value" and not attribute.ref_attr_name:
            return Stored(attribute.t, folder)
        if attribute.name in ("value_float", "value_floats", "value_int", "value_ints") and not attribute.ref_attr_name:
            floats = attribute.name.startswith("value_float")
            elem_type = onnx.TensorProto.FLOAT if floats else onnx.TensorProto.INT64
            value = onnx.helper.get_attribute_value(attribute)
            return Computed(np.asarray(value, np.float64 if floats else np.int64), elem_type)
    return None


# Made without the constructors and setters, whose synchronized lists take most of the time that a view takes.

_set = object.__setattr__


def _tensor(kind: Any, name: str) -> gs.Tensor:
    made = kind.__new__(kind)
    _set(made, "name", name)
    return made


def _node(op_type: str, name: str, domain: str) -> gs.Node:
    made = gs.Node.__new__(gs.Node)
    _set(made, "op", op_type)
    _set(made, "name", name)
    _set(made, "attrs", {})
    _set(made, "inputs", [])
    _set(made, "outputs", [])
    _set(made, "domain", domain)
    return made


def _maker(by: str | gs.Node) -> str:
    return by if isinstance(by, str) else f"node {describe(by)}"


def bodies_of(attribute: onnx.AttributeProto) -> Sequence[onnx.GraphProto]:
    """The graphs that an attribute holds."""
    kind = attribute.type
    if kind == onnx.AttributeProto.GRAPH:
        return (attribute.g,)
    return attribute.graphs if kind == onnx.AttributeProto.GRAPHS else ()


def _not_text(name: object, op_type: str, scope: Scope) -> InputError:
    return InputError(f"the graph is invalid: the name {name!r} in a {op_type}{_in(scope)} is not UTF-8. Export it again.")


def _in(scope: Scope) -> str:
    return f" in {scope.name}" if scope.name else ""
