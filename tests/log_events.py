"""our sources → what they write to the log, as the page names it: `python -m tests.log_events`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
OURS = ("features", "models", "pipeline", "api", "riskbeat")
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
SAID_BY_GUARD = "_say"
"""What the learner's guard says; `riskbeat/guarding.py` writes it down as a warning."""
OF_ELSEWHERE = {"event.fields", "fields"}
"""Fields that come by another call, which is read too."""


class Call(NamedTuple):
    """One place that writes a line."""

    place: str
    event: str
    level: str
    fields: tuple[str, ...]
    values: tuple[ast.expr, ...]


def calls() -> Iterator[Call]:
    """Yield every place of our sources that writes to the log."""
    for path in sorted(file for top in OURS for file in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            level = _level_of(node)
            if level:
                assert isinstance(node, ast.Call)
                yield _read(f"{path.relative_to(ROOT)}:{node.lineno}", node, level)


def _level_of(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Name):
        return "info or warning" if node.func.id == "write" else ""
    if not isinstance(node.func, ast.Attribute):
        return ""
    name = node.func.attr
    if name == SAID_BY_GUARD:
        return "warning"
    by_log = isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
    return ("error" if name == "exception" else name) if by_log and name in LEVELS else ""


def _read(place: str, node: ast.Call, level: str) -> Call:
    event = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
    assert isinstance(event, str), place
    fields = [word.arg or f"…{ast.unparse(word.value)}" for word in node.keywords]
    values = (*node.args, *(word.value for word in node.keywords))
    return Call(place, event, level, tuple(fields), values)


def table() -> str:
    """Return the page's table: event, level, fields."""
    levels: dict[str, dict[str, None]] = {}
    fields: dict[str, dict[str, None]] = {}
    for call in calls():
        if call.event:
            levels.setdefault(call.event, {})[call.level] = None
            known = fields.setdefault(call.event, {})
            known.update(dict.fromkeys(f for f in call.fields if f != "exc_info"))
    lines = ["| event | level | fields |", "|---|---|---|"]
    for event in sorted(levels):
        named = ", ".join(
            "the version's figures" if field == "…shown" else f"`{field}`"
            for field in fields[event]
        )
        lines.append(f"| `{event}` | {', '.join(levels[event])} | {named} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
