"""What `bnfold check` prints: one line per finding, GitHub annotations, or Markdown."""

from __future__ import annotations

from collections import Counter

from bnfold.report import figures
from bnfold.report import markdown as md
from bnfold.report.findings import Check, Finding, Level
from bnfold.report.github import annotation
from bnfold.report.page import Role, Style, clean, plain

_ROLES: dict[Level, Role] = {"error": "bad", "warning": "warn", "note": "dim"}
_ANNOTATIONS: dict[Level, str] = {"error": "error", "warning": "warning", "note": "notice"}


def check_text(check: Check, *, style: Style = plain) -> str:
    """`file: node: CODE sentence remedy`, one finding a line so that grep finds it, and a last line with the counts."""
    lines = []
    for one in check.findings:
        where, _, told = line_of(one).partition(one.code)
        lines.append(f"{style(where, 'strong')}{style(one.code, _ROLES[one.level])}{told}")
    return "\n".join([*lines, _summary(check, style)])


def check_markdown(check: Check) -> str:
    """A heading with the outcome, and a table of the findings."""
    lines = ["# bnfold check", "", f"**{_summary(check, plain)}**"]
    lines += ["", *(f"* {md.text(one.told)}" for one in check.unreadable)] if check.unreadable else []
    if check.findings:
        rows = [(md.code(one.path), md.code(one.place), one.code, one.level, md.text(told(one))) for one in check.findings]
        lines += ["", *md.table(("file", "node", "code", "level", "what"), rows)]
    return "\n".join(lines) + "\n"


def line_of(one: Finding) -> str:
    """A finding on one line."""
    place = f"{one.path}: {one.place}: " if one.place else f"{one.path}: "
    return clean(f"{place}{one.code} {told(one)}")


def check_github(check: Check) -> str:
    """Workflow commands, which GitHub shows as annotations."""
    broken = (annotation("error", one.message, file=one.path, title="bnfold") for one in check.unreadable)
    return "\n".join([*broken, *(_annotation(one) for one in check.findings)])


def _annotation(one: Finding) -> str:
    message = f"{one.place}: {told(one)}" if one.place else told(one)
    return annotation(_ANNOTATIONS[one.level], message, file=one.path, title=one.code)


def told(one: Finding) -> str:
    """What was found, and what helps."""
    end = "" if one.sentence.endswith((".", "!", "?")) else "."
    return f"{one.sentence}{end} {one.remedy}".rstrip()


def _summary(check: Check, style: Style) -> str:
    looked = f"{figures.count(len(check.files), 'file')} checked"
    levels = Counter(one.level for one in check.findings)
    told = [figures.count(levels[level], level) for level in _ROLES if levels[level]]
    told += [f"{figures.count(len(check.unreadable), 'file')} failed"] if check.unreadable else []
    if not told:
        return style(f"Nothing found, {looked}.", "good")
    return style(f"{', '.join(told)}, {looked}.", "warn" if check.ok else "bad")
