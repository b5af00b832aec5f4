"""Annotations of a GitHub workflow.

Source: https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations


def annotation(command: str, message: str, **properties: str) -> str:
    """One workflow command, as `::error file=m.onnx,title=BNF003::…`; empty properties are left out."""
    listed = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items() if value)
    return f"::{command} {listed}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
