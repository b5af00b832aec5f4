"""New names for tensors."""

from __future__ import annotations

from collections.abc import Iterable


class Names:
    """The names that a model's tensors have.

    Args:
        known: those that are taken.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = set(known)
        self._counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Takes a name."""
        self._known.add(name)

    def fresh(self, name: str) -> str:
        """A name that no tensor has, as close to `name` as can be; it is taken now."""
        found, count = name, self._counts.get(name, 1)
        while found in self._known:
            found, count = f"{name}_{count}", count + 1
        self._counts[name] = count
        self._known.add(found)
        return found
