"""A technology enters only through a file that bears its name; only the root opens doors."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("features", "models", "pipeline", "api", "riskbeat")
DOORS = {  # library: how the one kind of file that may import it must end
    "redis": "_redis",
    "faust": "_faust",
    "mode": "_faust",
    "aiokafka": "_kafka",
    "river": "_river",
    "lightgbm": "_lightgbm",
    "cel_expr_python": "_cel",
    "torch": "_torch",
    "fastapi": "_http",
    "matplotlib": "_matplotlib",
    "opentelemetry": "_otel",
    "prometheus_client": "metrics",
}
MIXED = {("faust", "aiokafka")}  # a Faust door reaches the transport below it
SUFFIXES = tuple(suffix for suffix in DOORS.values() if suffix.startswith("_"))


def sources() -> list[Path]:
    return sorted(path for top in OURS for path in (ROOT / top).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def may_import(path: Path, library: str) -> bool:
    door = DOORS.get(library)
    if door is None or path.stem.endswith(door):
        return True
    return any(path.stem.endswith(DOORS[by]) and library == of for by, of in MIXED)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_technology_enters_by_its_door(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        assert may_import(path, top), f"{name} belongs in a *{DOORS[top]}.py"
        if top in OURS and name.endswith(SUFFIXES):
            same_house = path.stem.endswith(SUFFIXES) and name.split(".")[0] == path.parts[-2]
            same_kind = path.stem.endswith(name[name.rfind("_") :])  # of a layer below
            assert same_house or same_kind or path.parts[-2] == "riskbeat", (
                f"only riskbeat/ may open {name}"
            )
