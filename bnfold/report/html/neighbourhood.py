"""The picture of a graph around one normalization, before and after: a few nodes of two protos, whose weights are not looked at.

Before stands what the fold takes away and the operators that take it, with what lies between and one node on each side. After
stands what now makes the same tensors from the same tensors: a fold keeps the names of both.
"""

from __future__ import annotations

import html
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import onnx

from bnfold.report.html.index import Index

if TYPE_CHECKING:
    from bnfold.verdict import Verdict

Role: TypeAlias = Literal["removed", "changed", "kept", "end", "more"]

_FARTHEST = 12  # nodes between a normalization and an operator that takes it
_MOST_NODES = 24
_MOST_AROUND = 4  # readers of one tensor that are shown
_LONGEST_NAME = 30


@dataclass(frozen=True)
class Picture:
    """A drawing of a few nodes.

    Attributes:
        dot: in the language of Graphviz; roles are classes.
        words: the same in words.
    """

    dot: str
    words: str


def around(verdict: Verdict, before: Index | None, after: Index | None) -> tuple[Picture | None, Picture | None]:
    """What stands around a normalization, in the original and, where it was folded, in the result.

    Args:
        verdict: on the normalization.
        before: the graph that holds it; None where the original is not at hand.
        after: the same graph of the result; None where there is none.
    """
    if before is None:
        return None, None
    one = verdict.normalization
    wanted = [before.find(label) for label in getattr(verdict, "into", ())]
    takers = [place for place in wanted if place is not None]
    gone = _nodes_of(before, one.output, one.op_type)
    core = {*gone, *takers, *(place for taker in takers for place in _between(before, gone, taker))}
    if not core or len(core) > _MOST_NODES:
        return None, None
    roles: dict[int, Role] = dict.fromkeys(core, "kept")
    roles |= dict.fromkeys(takers, "changed")
    roles |= dict.fromkeys(gone, "removed" if hasattr(verdict, "into") else "changed")
    first = _drawn(before, roles)
    if after is None or not hasattr(verdict, "into"):
        return first, None
    sources = {name for place in core for name in before.flows(place) if before.maker.get(name) not in core}
    sinks = [name for place in core for name in before.nodes[place].output if _leaves(before, name, core)]
    now = _made_from(after, [name for name in sinks if name in after.maker] or _further(before, after, core), sources)
    if now is None:
        return first, None
    same = {_text(before.nodes[place]) for place in core}
    return first, _drawn(after, {place: "kept" if _text(after.nodes[place]) in same else "changed" for place in now})


def apart(tensor: str, before: Index, after: Index) -> tuple[Picture | None, Picture | None]:
    """What makes a tensor in two models, back to the tensors that both have."""
    drawn = []
    for index, other in ((before, after), (after, before)):
        shared = {name for name in (*index.maker, *index.fed) if name in other.maker or name in other.fed} - {tensor}
        places = _made_from(index, [tensor], shared)
        drawn.append(None if places is None else _drawn(index, dict.fromkeys(places, "changed")))
    return drawn[0], drawn[1]


def _nodes_of(index: Index, output: str, op_type: str) -> list[int]:
    """The node of a normalization, or the primitives that spell one, from the last to the first."""
    left = [word.strip() for word in op_type.split(",")]
    pending, found = [index.maker[output]] if output in index.maker else [], []
    while pending and left:
        place = pending.pop()
        if index.nodes[place].op_type in left and place not in found:
            left.remove(index.nodes[place].op_type)
            found.append(place)
            pending += index.before(place)
    return found


def _between(index: Index, starts: Iterable[int], end: int) -> list[int]:
    """The nodes on a shortest path along the tensors, one way or the other."""
    for step in (index.before, index.behind):
        came = dict.fromkeys(starts, -1)
        queue = deque((start, 0) for start in came)
        while queue:
            place, length = queue.popleft()
            if place == end:
                path = []
                while place >= 0:
                    path.append(place)
                    place = came[place]
                return path
            for following in step(place) if length < _FARTHEST else ():
                if following not in came:
                    came[following] = place
                    queue.append((following, length + 1))
    return []


def _leaves(index: Index, name: str, core: Iterable[int]) -> bool:
    return bool(name) and (name in index.results or any(reader not in core for reader in index.readers.get(name, ())))


def _further(before: Index, after: Index, core: Iterable[int]) -> list[str]:
    """Where nothing that the core makes is still there: the next tensors that are made from it and are."""
    met, found = set(core), []
    pending = set(met)
    while pending and len(met) <= _MOST_NODES:
        readers = {reader for place in pending for reader in before.behind(place)} - met
        met |= readers
        still = {reader: [name for name in before.nodes[reader].output if name in after.maker] for reader in readers}
        found += [name for names in still.values() for name in names]
        pending = {reader for reader, names in still.items() if not names}
    return found


def _made_from(index: Index, sinks: Iterable[str], sources: Iterable[str]) -> list[int] | None:
    """The nodes that make the sinks from the sources; None where that takes too many."""
    found: dict[int, None] = {}
    pending, stop = list(sinks), set(sources)
    while pending:
        name = pending.pop()
        place = index.maker.get(name)
        if name in stop or place is None or place in found:
            continue
        found[place] = None
        if len(found) > _MOST_NODES:
            return None
        pending += index.flows(place)
    return sorted(found) or None


def _text(node: onnx.NodeProto) -> bytes:
    text: bytes = node.SerializeToString()
    return text


def _drawn(index: Index, roles: dict[int, Role]) -> Picture:
    """The nodes with their roles, and what stands next to them."""
    boxes: dict[str, tuple[str, str, str, Role]] = {}
    edges: dict[tuple[str, str], None] = {}
    words = []
    for place in sorted(roles):
        node = index.nodes[place]
        boxes[f"n{place}"] = (node.op_type, _name(node), _details(index, node), roles[place])
        sources = []
        for name in index.flows(place):
            maker = index.maker.get(name)
            key = f"n{maker}" if maker is not None else f"in {name}"
            if key not in boxes and maker not in roles:
                boxes[key] = _beside(index, maker, name)
            edges[key, f"n{place}"] = None
            sources.append(boxes[key][0] if key in boxes else index.nodes[maker].op_type if maker is not None else name)
        words.append(
            f"{node.op_type} {_name(node)}{_ROLE_WORDS[roles[place]]}{' reads ' + ', '.join(sources) if sources else ''}"
        )
    for place in sorted(roles):
        _add_readers(index, place, roles, boxes, edges, words)
    lines = [f'"{_quoted(key)}" [{_box(*box)}]' for key, box in boxes.items()]
    lines += [f'"{_quoted(one)}" -> "{_quoted(other)}"' for one, other in edges]
    return Picture(f"digraph {{ {'; '.join([*_STYLE, *lines])} }}", "; ".join(words))


def _add_readers(
    index: Index,
    place: int,
    roles: dict[int, Role],
    boxes: dict[str, tuple[str, str, str, Role]],
    edges: dict[tuple[str, str], None],
    words: list[str],
) -> None:
    node = index.nodes[place]
    others = list(dict.fromkeys(reader for reader in index.behind(place) if reader not in roles))
    for reader in others[:_MOST_AROUND]:
        boxes.setdefault(f"n{reader}", _beside(index, reader, ""))
        edges[f"n{place}", f"n{reader}"] = None
    if len(others) > _MOST_AROUND:
        boxes[f"more {place}"] = (f"{len(others) - _MOST_AROUND} more", "", "", "more")
        edges[f"n{place}", f"more {place}"] = None
    for name in index.results.intersection(node.output):
        boxes[f"out {name}"] = (name, "", "", "end")
        edges[f"n{place}", f"out {name}"] = None
    readers = [index.nodes[reader].op_type for reader in others] + [
        f"output {name}" for name in index.results.intersection(node.output)
    ]
    if readers:
        words.append(f"{node.op_type} {_name(node)} is read by {', '.join(readers[:_MOST_AROUND])}")


def _beside(index: Index, place: int | None, name: str) -> tuple[str, str, str, Role]:
    if place is None:
        return name, "", "", "end"
    node = index.nodes[place]
    return node.op_type, _name(node), "", "more"


def _name(node: onnx.NodeProto) -> str:
    return node.name or next(iter(node.output), "")


def _details(index: Index, node: onnx.NodeProto) -> str:
    """The extents of a node's constants: "6×1×5×5 · 6"; the first alone where they are all of one rank."""
    sizes = ["×".join(map(str, index.sizes[name])) or "scalar" for name in node.input if name in index.sizes]
    return " · ".join(dict.fromkeys(sizes)) if node.op_type not in ("Reshape", "Slice", "Pad", "Resize") else ""


_ROLE_WORDS: dict[Role, str] = {"removed": " (goes)", "changed": "", "kept": "", "end": "", "more": ""}
_STYLE = (
    'bgcolor="transparent" ranksep=0.32 nodesep=0.25 pad=0.05',
    'node [shape=box style="rounded,filled" fontname="Helvetica" fontsize=12 margin="0.14,0.06" height=0.3]',
    "edge [arrowsize=0.6]",
)


def _box(op_type: str, name: str, details: str, role: Role) -> str:
    small = "".join(f'<br/><font point-size="9">{html.escape(_short(each))}</font>' for each in (name, details) if each)
    shape = ' shape=plaintext style=""' if role == "end" else ""
    return f'class="{role}" tooltip="{_quoted(name or op_type)}" label=<<b>{html.escape(_short(op_type))}</b>{small}>{shape}'


def _short(text: str) -> str:
    half = _LONGEST_NAME // 2
    return text if len(text) <= _LONGEST_NAME else f"{text[:half]}…{text[-half:]}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
