"""The report of `bnfold accuracy` as a file: JSON, Markdown, JUnit, SARIF."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bnfold.report import accuracy_figures as figures
from bnfold.report.findings import Finding
from bnfold.report.junit import Case, junit_xml
from bnfold.report.markdown import code, table, text
from bnfold.report.report import document
from bnfold.report.sarif import sarif_document
from bnfold.report.write import Renderings, as_json

if TYPE_CHECKING:
    from bnfold.runtime.accuracy.result import Accuracy

GATE_FAILED = "BNF050"


def accuracy_renderings(accuracy: Accuracy, command: str = "") -> Renderings:
    """One renderer for each suffix; `command` is the command line."""

    def page() -> str:
        from bnfold.report.html.pages import accuracy_page
        from bnfold.report.html.render import render

        return render(accuracy_page(accuracy, command))

    return {
        ".json": lambda: as_json(accuracy_document(accuracy)),
        ".md": partial(accuracy_markdown, accuracy),
        ".xml": lambda: junit_xml("bnfold accuracy", accuracy_cases(accuracy)),
        ".sarif": lambda: as_json(sarif_document(accuracy_findings(accuracy))),
        ".html": page,
    }


def accuracy_document(accuracy: Accuracy) -> dict[str, Any]:
    """The JSON document."""
    content = {name: value for name, value in accuracy.to_dict().items() if name != "ok"}
    return document(" ".join(accuracy.failures), **content)


def accuracy_markdown(accuracy: Accuracy) -> str:
    """A heading with the outcome, and everything that was measured."""
    against = f" against {code(accuracy.reference.model)}" if accuracy.candidate is not None else ""
    model = accuracy.candidate or accuracy.reference
    lines = [f"# bnfold accuracy: {code(model.model)}{against}", "", f"**{figures.outcome(accuracy).capitalize()}.**"]
    return "\n".join([*lines, *accuracy_sections(accuracy)]) + "\n"


def accuracy_sections(accuracy: Accuracy) -> list[str]:
    """What was measured, as lines of Markdown, below a heading of the caller's."""
    titles, *scores = figures.rows(accuracy)
    lines = ["", *table(titles, scores), ""]
    if accuracy.pairs is not None:
        columns, *answers = figures.table(accuracy.pairs)
        lines += [*table(columns, answers), "", *(f"* {text(line)}" for line in figures.flips(accuracy.pairs))]
        lines += [f"* drop {text(figures.drop(accuracy.pairs))}"]
    if metric := figures.metric_drop(accuracy):
        lines += [f"* drop {text(metric)}"]
    lines += [f"* {'passed' if gate.ok else '**failed**'} {code(gate.option)}: {text(gate.sentence)}" for gate in accuracy.gates]
    lines += [f"* warning {note.code}: {text(note.sentence)}" for note in accuracy.notes]
    lines += [f"* {text(line)}" for line in (*figures.data(accuracy), figures.execution(accuracy))]
    if accuracy.tally.flips:
        lines += ["", "First flips:", "", *(f"* {text(figures.flip(one))}" for one in accuracy.tally.flips)]
    return lines


def accuracy_findings(accuracy: Accuracy) -> list[Finding]:
    """What a gate or a warning says, for SARIF."""
    path = (accuracy.candidate or accuracy.reference).model
    failed = [Finding(path, GATE_FAILED, "", "", sentence) for sentence in accuracy.failures]
    return [*failed, *(Finding(path, note.code, note.node, note.scope, note.sentence) for note in accuracy.notes)]


def accuracy_cases(accuracy: Accuracy) -> list[Case]:
    """One test case for the run and one for each gate, for JUnit."""
    path = (accuracy.candidate or accuracy.reference).model
    measured = "\n".join(figures.flips(accuracy.pairs)) if accuracy.pairs is not None else figures.data(accuracy)[0]
    gates = [
        Case(gate.option, path, "" if gate.ok else gate.sentence, gate.sentence if gate.ok else "") for gate in accuracy.gates
    ]
    return [Case("accuracy", path, output=measured, elapsed_s=accuracy.elapsed_s), *gates]
