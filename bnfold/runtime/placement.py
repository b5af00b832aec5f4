"""Which provider took which node, and whether that is what was asked for.

onnxruntime ≥ 1.24 records it when a session is created (`session.record_ep_graph_assignment_info`). A GPU provider leaves
some nodes on the CPU on purpose: those that work on sizes, where a copy to the device and back would cost more than the
node. So a node counts as *bookkeeping* when no input value reaches it, only sizes and constants: Shape and Size cut the
flow of values, every other operator passes it on. All others are *compute* nodes, and a strict target must run every one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnfold.runtime.providers import CPU_PROVIDER, ProviderUnfit, Target
from bnfold.verdict import Note

if TYPE_CHECKING:
    import onnx

RECORD = "session.record_ep_graph_assignment_info"
"""The session configuration entry that makes onnxruntime record the assignment."""

_SIZES = frozenset({"Shape", "Size"})
_RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})
_COPIES = frozenset({"Constant", "MemcpyFromHost", "MemcpyToHost"})
_NAMED = 4

NodeKey = tuple[str, str]
"""A node's name and its operator: all that onnxruntime says about it. Several nodes may share one."""


@dataclass(frozen=True)
class Placed:
    """One node of the graph that onnxruntime runs, and the provider that took it."""

    provider: str
    name: str
    op_type: str


@dataclass(frozen=True)
class Placement:
    """Where a session runs, and how.

    Attributes:
        provider: the one that was asked for, in full.
        options: what it was opened with, defaults that matter for the numbers included.
        deterministic: whether onnxruntime was asked for deterministic kernels.
        tf32: whether float32 products may be rounded to TF32.
        nodes: provider → number of nodes that it took; None where this onnxruntime does not say.
        elsewhere: operator → number of compute nodes that another provider took.
        examples: names of some of these.
    """

    provider: str
    options: Mapping[str, str] = field(default_factory=dict)
    deterministic: bool = True
    tf32: bool = False
    nodes: Mapping[str, int] | None = None
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    @property
    def share(self) -> float | None:
        """The part of all nodes that the requested provider took, 0 to 1; None where it is not known."""
        total = sum(self.nodes.values()) if self.nodes else 0
        return self.nodes.get(self.provider, 0) / total if self.nodes and total else None

    @property
    def proved(self) -> bool:
        """Whether it is certain that the requested provider ran every compute node."""
        return self.provider == CPU_PROVIDER or (self.nodes is not None and not self.elsewhere)

    def facts(self) -> dict[str, str]:
        """What a report says about the provider: short words and their values, in a fixed order."""
        facts = {"provider": self.provider, **dict(sorted(self.options.items()))}
        facts["deterministic"] = "yes" if self.deterministic else "no"
        facts["tf32"] = "yes" if self.tf32 else "no"
        if self.nodes is not None:
            facts["nodes"] = ", ".join(f"{provider} {count}" for provider, count in sorted(self.nodes.items()))
        return facts

    def notes(self) -> tuple[Note, ...]:
        """BNF031 where another provider ran a part, or where nobody can tell."""
        return () if self.proved else (Note("BNF031", _sentence(self)),)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "provider": self.provider,
            "options": dict(self.options),
            "deterministic": self.deterministic,
            "tf32": self.tf32,
            "nodes": None if self.nodes is None else dict(self.nodes),
            "share": self.share,
            "proved": self.proved,
            "elsewhere": dict(self.elsewhere),
        }


def recorded(session: Any) -> tuple[Placed, ...] | None:
    """What onnxruntime recorded about `session`; None before version 1.24, which records nothing."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    parts = session.get_provider_graph_assignment_info()
    return tuple(Placed(part.ep_name, node.name, node.op_type) for part in parts for node in part.get_nodes())


def strayed(placed: Iterable[Placed], provider: str, bookkeeping: frozenset[NodeKey]) -> tuple[Placed, ...]:
    """The compute nodes that another provider took than `provider`.

    Args:
        placed: all nodes.
        provider: the requested one, in full.
        bookkeeping: from the function of that name. A node that onnxruntime made itself is in no model, and counts as compute
            unless it only moves data.
    """
    return tuple(
        node
        for node in placed
        if node.provider != provider and node.op_type not in _SIZES | _COPIES and (node.name, node.op_type) not in bookkeeping
    )


def check(placement: Placement, target: Target, label: str) -> None:
    """Raises `ProviderUnfit` unless it is proved that the requested provider runs `label`, or the target allows less."""
    if not placement.proved and not target.allow_fallback:
        raise ProviderUnfit(f"{label}: {_sentence(placement)} To run it all the same, and be told the share: --allow-fallback.")


def counted(placed: Iterable[Placed]) -> dict[str, int]:
    """Provider → number of nodes."""
    return dict(Counter(node.provider for node in placed))


def operators(nodes: Iterable[Placed]) -> dict[str, int]:
    """Operator → number of nodes, the most frequent first."""
    return dict(Counter(node.op_type for node in nodes).most_common())


def examples(nodes: Iterable[Placed]) -> tuple[str, ...]:
    """The first few names, the empty ones left out."""
    return tuple(node.name for node in nodes if node.name)[:_NAMED]


def _sentence(placement: Placement) -> str:
    import onnxruntime as ort

    name = placement.provider
    if placement.nodes is None:
        return (
            f"onnxruntime {ort.__version__} does not say which provider runs a node, so it cannot be proved that {name} "
            "runs them (BNF031). Upgrade onnxruntime to 1.24 or later."
        )
    total, taken = sum(placement.nodes.values()), placement.nodes.get(name, 0)
    what = ", ".join(f"{op_type} {count}" for op_type, count in placement.elsewhere.items())
    named = f", such as `{'`, `'.join(placement.examples)}`" if placement.examples else ""
    others = ", ".join(sorted(set(placement.nodes) - {name}))
    return f"{name} takes {taken} of {total} nodes (BNF031). {others} takes compute nodes: {what}{named}."


# -- the flow of values -------------------------------------------------------------------------------------------------------


def bookkeeping(proto: onnx.ModelProto) -> frozenset[NodeKey]:
    """The nodes of the main graph and of the bodies in it that no input value reaches, only sizes and constants.

    A key counts when that holds for every node that shares it.
    """
    found: dict[NodeKey, list[bool]] = defaultdict(list)
    constant = {tensor.name for tensor in proto.graph.initializer}
    live = {value.name for value in proto.graph.input if value.name not in constant}
    _walk(proto.graph, live, found)
    return frozenset(key for key, each in found.items() if not any(each))


def _walk(graph: onnx.GraphProto, live: set[str], found: dict[NodeKey, list[bool]]) -> bool:
    """Follows input values through `graph`; `live` are the names that carry one. Whether one of its outputs does."""
    for node in graph.node:
        bodies = [body for attribute in node.attribute for body in attribute.graphs]
        bodies += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        fed = node.op_type in _RANDOM or any(name in live for name in node.input)
        # A body sees the names around it, and takes what its node takes.
        reached = [_walk(body, live | ({value.name for value in body.input} if fed else set()), found) for body in bodies]
        computes = node.op_type not in _SIZES and (fed or any(reached))
        found[node.name, node.op_type].append(computes)
        if computes:
            live.update(node.output)
    return any(value.name in live for value in graph.output)
