"""Groups of rows: which are asked for, and what becomes of one that fails."""

import argparse

import pytest

from load_tests.groups import add_only, chosen, measured
from load_tests.report import Row

KNOWN = ("one", "two")


def asked_for(*words: str) -> list[str]:
    parser = argparse.ArgumentParser()
    add_only(parser, KNOWN)
    return chosen(parser, parser.parse_args(words).only, KNOWN)


def test_all_groups_are_measured_unless_some_are_named() -> None:
    assert asked_for() == ["one", "two"]
    assert asked_for("--only", "two") == ["two"]


def test_an_unknown_group_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        asked_for("--only", "two,three")
    assert refused.value.code == 2
    assert "unknown three; known: one, two" in capsys.readouterr().err


def test_a_group_that_fails_breaks_its_must_and_the_others_are_measured() -> None:
    def failing() -> list[Row]:
        raise TimeoutError("no answer")

    def good() -> list[Row]:
        return [Row("a rate", 7.0, "/s", 5, 9)]

    rows = measured(KNOWN, {"one": failing, "two": good}.__getitem__)
    assert [row.holds() for row in rows] == [False, True]
    assert rows[0].what == "one: measured"
    assert rows[0].note == "TimeoutError: no answer"
