"""docs/evidence/*.json → the README's table of figures: no number in it is written by hand."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from load_tests.evidence.chosen import Chosen
from load_tests.report import ROOT, Row

FOLDER = ROOT / "docs" / "evidence"
BEGIN, END = (
    "<!-- figures: python -m load_tests.evidence --write -->\n",
    "<!-- end of figures -->\n",
)
HEAD = "| what | figure | must | aim | by |\n|---|---|---|---|---|\n"


def table_of(chosen: Sequence[Chosen], folder: Path = FOLDER) -> str:
    """Return the table, and below it where each part comes from.

    Raises:
        ValueError: A file lacks a row that was chosen; names both.
    """
    lines, sources = [], []
    for one in chosen:
        document = json.loads((folder / f"{one.file}.json").read_text())
        lines += [_line(row, one.file) for row in _rows(one, document)]
        sources.append(
            f"- `{one.file}`: `python -m load_tests.{one.arguments} --out FILE`; "
            f"{document['machine'].split(', Linux')[0]}; {document['date'][:10]}, commit "
            f"{document['commit'][:7]}\n"
        )
    return HEAD + "".join(lines) + "\n" + "".join(sources)


def placed(text: str, table: str) -> str:
    """Return a text with the table between its marks.

    Raises:
        ValueError: The text has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for figures: {BEGIN.strip()} … {END.strip()}")
    return before + begin + table + end + after


def _rows(chosen: Chosen, document: dict[str, Any]) -> Iterator[Row]:
    rows = [Row(**row) for row in document["rows"]]
    for pattern in chosen.rows:
        found = [row for row in rows if re.fullmatch(pattern, row.what)]
        if not found:
            raise ValueError(f"{chosen.file}.json: no row {pattern!r}")
        yield from found


def _line(row: Row, file: str) -> str:
    mark = "" if row.holds() else ", **not met**"
    must = "" if row.must is None else f"{_sign(row)} {_number(row.must)}{mark}"
    aim = "" if row.aim is None else f"{_sign(row)} {_number(row.aim)}"
    figure = "not run" if row.value is None else f"{_number(row.value)} {row.unit}".strip()
    what = row.what.replace("|", "\\|")
    return f"| {what} | {figure} | {must} | {aim} | [{file}](docs/evidence/{file}.json) |\n"


def _sign(row: Row) -> str:
    return "≥" if row.better == "higher" else "≤"


def _number(value: float) -> str:
    """Return three significant digits, or all before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
