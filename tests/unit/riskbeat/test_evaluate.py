"""`riskbeat evaluate`: one page that needs nothing else, its figures as JSON, plain refusals."""

import html.parser
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from models.cost import Costs
from models.evaluation import figures_of
from pipeline.judged import JudgeLog, JudgeRules
from pipeline.judged_columns import CHAMPION, Judged, columns_of
from pipeline.judged_parquet import ParquetJudged
from riskbeat.__main__ import app, main
from tests.fakes_judged import DAY_0, DAY_MS, MemoryJudgedStore, MemoryJudgeWatch, a_judged

NAMES = ("delayed.network", "challenger.<b>logistic</b>")
ROWS = [a_judged(number, day=DAY_0 + number // 150) for number in range(1200)]


def kept(folder: Path, rows: list[Judged], marks: bool = True) -> Path:
    """Judged rows as a learner leaves them in its data directory."""
    store = MemoryJudgedStore()
    files = ParquetJudged(folder / "evaluation")
    rules = JudgeRules(predictors=NAMES, write_every_s=0.0)
    log = JudgeLog(rules, store, files, MemoryJudgeWatch(), lambda: 0.0)
    log.restore()
    log.add_many(rows)
    if marks:
        log.mark((DAY_0 + 2) * DAY_MS, "drift", "scores of <delayed>")
    store.commit()
    log.committed()
    return folder


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with nothing in it."""
    monkeypatch.chdir(tmp_path)
    for key in ("RISKBEAT_DATA_DIR", "RISKBEAT_POLICY_PATH"):
        monkeypatch.delenv(key, raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", *arguments])


class Page(html.parser.HTMLParser):
    """Collects what a page would load, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_page_that_loads_nothing(called: Path) -> None:
    kept(called / "data", ROWS)
    found = run()
    assert found.exit_code == 0, found.output
    text = (called / "evaluation.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert len(page.ids) == len(set(page.ids))  # pictures do not take each other's parts
    assert text.count("<svg") == 6
    assert "scores of &lt;delayed&gt;" in text
    assert "<b>logistic" not in text


def test_references_within_a_picture_lead_into_it(called: Path) -> None:
    kept(called / "data", ROWS)
    assert run().exit_code == 0
    text = (called / "evaluation.html").read_text()
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        named = set(re.findall(r'\bid="([^"]+)"', picture))
        assert set(re.findall(r"url\(#([^)]+)\)", picture)) <= named
        assert set(re.findall(r'xlink:href="#([^"]+)"', picture)) <= named


def test_figures_are_those_of_the_rows(called: Path) -> None:
    kept(called / "data", ROWS)
    found = run("--json", "--false-alarm-cost", "70", "--review-cost", "5")
    assert found.exit_code == 0, found.output
    told = {one["name"]: one for one in json.loads(found.stdout)["predictors"]}
    assert not (called / "evaluation.html").exists()
    columns = columns_of(ROWS, NAMES)
    for name in (CHAMPION, *NAMES):
        expected = figures_of(columns.scored(name), Costs(70, 5))
        assert told[name]["figures"] == pytest.approx(expected)


def test_days_and_their_distance_from_the_champion(called: Path) -> None:
    kept(called / "data", ROWS)
    told = json.loads(run("--json").stdout)
    columns = columns_of(ROWS, NAMES)
    gaps = []
    for number, day in enumerate(told["days"]):
        rows = columns.champion.day == DAY_0 + number
        mine = figures_of(columns.champion.part(rows), Costs())
        theirs = figures_of(columns.scored(NAMES[0]).part(rows), Costs())
        assert day["judged"] == rows.sum()
        shown = day["figures"][CHAMPION]["average_precision"]
        assert shown == pytest.approx(mine["average_precision"])
        gaps.append(theirs["average_precision"] - mine["average_precision"])
    against = told["predictors"][1]["against"]["average_precision"]
    assert against["mean"] == pytest.approx(np.mean(gaps))
    assert against["sd"] == pytest.approx(np.std(gaps, ddof=1))


def test_a_span_of_event_time_can_be_chosen(called: Path) -> None:
    kept(called / "data", ROWS)
    told = json.loads(run("--json", "--from", "2024-10-06", "--to", "2024-10-08").stdout)
    inside = [row for row in ROWS if DAY_0 + 2 <= row.event_ms // DAY_MS < DAY_0 + 4]
    assert told["counts"]["judged"] == len(inside)
    assert [day["day"][:10] for day in told["days"]] == ["2024-10-06", "2024-10-07"]


def test_files_can_be_named_and_what_was_let_through_counts_for_its_like(called: Path) -> None:
    rows = [
        row._replace(propensity=0.1) if number % 40 == 0 else row for number, row in enumerate(ROWS)
    ]
    kept(called / "elsewhere", rows)
    files = [str(path) for path in called.glob("elsewhere/evaluation/judged/*/*.parquet")]
    told = json.loads(run("--json", *files).stdout)
    w = [10.0 if number % 40 == 0 else 1.0 for number in range(len(rows))]
    rate = np.average([row.y for row in rows], weights=w)
    assert told["predictors"][0]["figures"]["fraud_rate"] == pytest.approx(rate)
    assert told["counts"]["passed_through"] == 30


def test_the_policys_bounds_are_priced_where_alerts_begin(called: Path) -> None:
    kept(called / "data", ROWS)
    policy = called / "policy.yaml"
    policy.write_text(
        "version: 1\nrisk_levels: {elevated: 0.9, highest: 0.99}\ndefault:\n  bands:\n"
        "    - {outcome: decline, probability: 0.75}\n    - {outcome: review, percentile: 0.4}\n"
    )
    told = json.loads(run("--json", "--false-alarm-cost", "7", "--review-cost", "3").stdout)
    at = {"decline": 0.75, "review": float(np.quantile([row.p for row in ROWS], 0.4))}
    for bound in told["bounds"]:
        threshold = at[bound["outcome"]]
        assert bound["threshold"] == pytest.approx(threshold)
        cost = sum(row.amount for row in ROWS if row.y and row.p < threshold) + sum(
            3 + (0 if row.y else 7) for row in ROWS if row.p >= threshold
        )
        assert bound["cost_per_event"] == pytest.approx(cost / len(ROWS))
    assert len(told["bounds"]) == 2


@pytest.mark.parametrize("frauds", [0, 1, 2])
def test_few_rows_and_few_frauds_still_make_a_report(called: Path, frauds: int) -> None:
    rows = [a_judged(number, fraud=number < frauds) for number in range(2)]
    kept(called / "data", rows, marks=False)
    found = run()
    assert found.exit_code == 0, found.output
    assert "No drift was found" in (called / "evaluation.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "data/evaluation: no judged predictions yet: a prediction is judged once"),
        (("absent.parquet",), "absent.parquet: no such file"),
        (("other.parquet",), "other.parquet: no file of judged predictions: column `seq` is"),
        (("--data-dir", "full", "--from", "2031-01-01"), "there are some from 2024-10-04T"),
        (("--data-dir", "full", "--out", "report.pdf"), "expected a name that ends in .html"),
        (("--data-dir", "full", "--out", "no/where.html"), "no such folder"),
        (("--data-dir", "full", "--policy", "none.yaml"), "none.yaml: No such file"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(
    called: Path, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kept(called / "full", ROWS[:50])
    pl.DataFrame({"y": [1]}).write_parquet(called / "other.parquet")
    monkeypatch.setattr("sys.argv", ["riskbeat", "evaluate", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in told
    assert told.count("\n") == 1
