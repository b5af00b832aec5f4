"""The signatures of two models: a caller of the one must be able to call the other."""

from __future__ import annotations

from bnfold.runtime.source import Source, ValueSpec


def differences(original: Source, candidate: Source) -> list[str]:
    """What a caller of the original would miss in the candidate, one sentence each; empty when nothing.

    Inputs that are initializers in the original may be missing, as freezing them makes them constants. Extents are
    compared where both models fix them.
    """
    sentences = _between("input", original.inputs, candidate.inputs, original.overridable)
    return sentences + _between("output", original.outputs, candidate.outputs, frozenset())


def _between(role: str, ours: tuple[ValueSpec, ...], theirs: tuple[ValueSpec, ...], overridable: frozenset[str]) -> list[str]:
    have = {spec.name: spec for spec in theirs}
    want = {spec.name: spec for spec in ours}
    missing = [name for name in want if name not in have]
    extra = [name for name in have if name not in want]
    sentences = [f"The candidate lacks the {role} `{name}` of the original." for name in missing]
    for name in extra:
        why = "has an initializer" if name in overridable else "does not exist"
        sentences.append(f"The candidate has the {role} `{name}`, which {why} in the original.")
    for name in want.keys() & have.keys():
        sentences += _conflict(role, want[name], have[name])
    if not sentences and role == "output" and [spec.name for spec in ours] != [spec.name for spec in theirs]:
        sentences.append(f"The candidate gives its outputs in another order: {', '.join(have)} for {', '.join(want)}.")
    return sentences


def _conflict(role: str, one: ValueSpec, other: ValueSpec) -> list[str]:
    if one.type and other.type and one.type != other.type:
        return [f"The {role} `{one.name}` has type {other.type} in the candidate and {one.type} in the original."]
    if one.shape is None or other.shape is None:
        return []
    fixed = zip(one.shape, other.shape, strict=False)
    contradict = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in fixed)
    if contradict or len(one.shape) != len(other.shape):
        return [f"The {role} `{one.name}` has shape {other.shape} in the candidate and {one.shape} in the original."]
    return []
