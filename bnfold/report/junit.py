"""Outcomes as JUnit XML, which build servers read: a suite of cases, each passed or failed with its text.

Source: the schema of the Jenkins plug-in, https://github.com/jenkinsci/xunit-plugin (junit-10.xsd).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

_NOT_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # all but https://www.w3.org/TR/xml/#charsets


@dataclass(frozen=True)
class Case:
    """One thing that was checked.

    Attributes:
        name: what it is called within its group.
        group: the file it is about.
        failure: why it failed; "" when it passed.
        output: what else is worth reading.
        elapsed_s: seconds it took; None where nobody measured.
    """

    name: str
    group: str
    failure: str = ""
    output: str = ""
    elapsed_s: float | None = None


def junit_xml(suite: str, cases: Sequence[Case]) -> str:
    """One test suite called `suite`, as an XML document."""
    root = ElementTree.Element("testsuites")
    failed = sum(bool(case.failure) for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": "0"}
    element = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts})
    for case in cases:
        attributes = {"name": _legal(case.name), "classname": _legal(case.group)}
        if case.elapsed_s is not None:
            attributes["time"] = f"{case.elapsed_s:.3f}"
        one = ElementTree.SubElement(element, "testcase", attributes)
        if case.failure:
            headline = case.failure.splitlines()[0]
            ElementTree.SubElement(one, "failure", {"message": _legal(headline), "type": "bnfold"}).text = _legal(case.failure)
        if case.output:
            ElementTree.SubElement(one, "system-out").text = _legal(case.output)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _legal(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
