"""The page of `bnfold check`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bnfold.report import figures
from bnfold.report.html.facts import evidence
from bnfold.report.html.parts import Block, Column, Lines, Page, Section, Table, TableRow, Tile, Tone, chip, code, words
from bnfold.report.html.sections import tone_of
from bnfold.report.lint import told

if TYPE_CHECKING:
    from bnfold.report.findings import Check, Level


_TONES: dict[Level, Tone] = {"error": "bad", "warning": "warn", "note": "plain"}


def check_page(check: Check, command: str = "") -> Page:
    """Every finding of the linter."""
    one_file = len(check.files) == 1
    titles = (Column("file", one_file), Column("level"), Column("code"), Column("node", True), Column("what, and what helps"))
    rows = tuple(
        TableRow((code(one.path), chip(one.level, _TONES[one.level]), words(one.code), code(one.place), words(told(one))))
        for one in check.findings
    )
    blocks: list[Block] = []
    if check.unreadable:
        blocks.append(Lines(tuple(f"{one.path}: {one.message}" for one in check.unreadable), "bad"))
    blocks.append(Table("Findings", titles, rows, "finding") if rows else Lines(("Nothing found.",), "good"))
    counts = Counter(one.level for one in check.findings)
    tiles = [Tile("files", f"{len(check.files):,}")]
    tiles += [Tile(f"{level}s", f"{counts[level]:,}", tone=_TONES[level]) for level in _TONES if counts[level]]
    tiles += [Tile("not readable", f"{len(check.unreadable):,}", tone="bad")] if check.unreadable else []
    subject = check.files[0] if one_file else figures.count(len(check.files), "file")
    sections = [Section("findings", "Findings", tuple(blocks)), evidence(command, [("model", path) for path in check.files])]
    outcome = "Passed" if check.ok else "Failed"
    return Page("check", subject, outcome, tone_of(check.ok), "What is left to fold or to mend", tiles, sections)
