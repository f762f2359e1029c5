"""The README's figures are those of docs/evidence, and a figure that misses its bound says so."""

import json
from pathlib import Path

import pytest

from load_tests.evidence.chosen import CHOSEN, Chosen
from load_tests.evidence.table import BEGIN, END, placed, table_of
from load_tests.report import ROOT

ROWS = [
    {"what": "rate", "value": 12_345.6, "unit": "1/s", "must": 20_000, "aim": 30_000},
    {"what": "delay, p50", "value": 0.01234, "unit": "s", "must": 1, "better": "lower"},
    {"what": "not here", "value": None, "unit": "s"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    document = {"machine": "2 cores, a Xeon, Linux 6", "commit": "c" * 40, "date": "2026-01-02T03"}
    (tmp_path / "one.json").write_text(json.dumps(document | {"rows": ROWS}))
    return tmp_path


def test_the_readme_shows_what_was_measured() -> None:
    text = (ROOT / "README.md").read_text()
    assert placed(text, table_of(CHOSEN)) == text, "python -m load_tests.evidence --write"


def test_figures_have_three_digits_and_say_what_they_miss(folder: Path) -> None:
    table = table_of([Chosen("one", "one --quick", ("rate", "delay, .*", "not here"))], folder)
    link = "[one](docs/evidence/one.json)"
    assert f"| rate | 12 346 1/s | ≥ 20 000, **not met** | ≥ 30 000 | {link} |\n" in table
    assert f"| delay, p50 | 0.0123 s | ≤ 1 |  | {link} |\n" in table
    assert f"| not here | not run |  |  | {link} |\n" in table
    assert (
        "- `one`: `python -m load_tests.one --quick --out FILE`; 2 cores, a Xeon; 2026-01-02, "
        "commit ccccccc\n" in table
    )


def test_a_row_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"one.json: no row 'rat'"):
        table_of([Chosen("one", "one", ("rat",))], folder)


def test_a_text_without_a_place_is_told(folder: Path) -> None:
    with pytest.raises(ValueError, match="no place for figures"):
        placed("nothing", "table")
    assert placed(f"a\n{BEGIN}old\n{END}b", "new\n") == f"a\n{BEGIN}new\n{END}b"
