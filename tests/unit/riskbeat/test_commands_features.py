"""`riskbeat features`: what people and scripts read about a spec."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from features.spec import Spec
from features.spec_yaml import span_text
from features.window_plan import state_bytes_max
from riskbeat.__main__ import main

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "features.yaml"
COARSE = """
money: {base: EUR, rates_version: "1", rates: {EUR: "1"}}
event_types: {card_payment: {primary: card}}
limits: {blob_max_bytes: 8192}
entities:
  card:
    count: [1h, 30d]
    std: [30d]
    last: [24h]
    distinct: {merchant: [30d]}
    since_last: true
    fraud_rate: [7d]
  merchant: {count: [1h]}
  pair:
    key: [card, merchant]
    sum: [1h]
ratios:
  - card.count_over_1h / card.count_over_30d
"""


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command as a user does whose output is piped."""
    monkeypatch.delenv("RISKBEAT_SPEC_PATH", raising=False)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["riskbeat", "features", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, told.out, told.err)

    return run


@pytest.fixture
def coarse(tmp_path: Path) -> Path:
    path = tmp_path / "coarse.yaml"
    path.write_text(COARSE)
    return path


@pytest.mark.parametrize("columns", ["20", "80", "160"])
def test_a_piped_list_has_each_feature_whole_on_one_line(
    run: Any, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = run("list", "--spec", str(SHIPPED)).out.splitlines()
    rows = {line.split()[0]: line for line in lines if re.match(r" [a-z_]+\.", line)}
    spec = Spec.load(SHIPPED)
    assert list(rows) == list(spec.feature_names)
    assert not [line for line in lines if line != line.rstrip() or "…" in line]
    for name, info in spec.features.items():
        assert info.unit in rows[name]
        assert info.type in rows[name]


def test_the_listed_bound_is_that_of_the_window(run: Any, coarse: Path) -> None:
    told = run("list", "--spec", str(coarse)).out
    bound = {line.split()[0]: line.split("  ")[-1].strip() for line in told.splitlines() if line}
    [card, _, pair] = Spec.load(coarse).entities
    tile = {level.window_ms: span_text(level.tile_ms) for level in card.levels}
    assert bound["card.count_over_1h"] == tile[3_600_000]
    assert bound["card.std_of_amount_over_30d"] == tile[30 * 86_400_000]
    assert bound["card.distinct_merchant_over_30d"] == f"{tile[30 * 86_400_000]}, 13 %"
    assert bound["card.last_of_amount_over_24h"] == "exact"
    assert bound["card.since_last"] == "exact"
    assert bound["pair.sum_of_amount_over_1h"] == span_text(pair.levels[0].tile_ms)
    assert bound["card.count_over_1h_per_card.count_over_30d"] == "as its parts"


def test_a_list_for_scripts_has_everything(run: Any, coarse: Path) -> None:
    spec = Spec.load(coarse)
    told = run("list", "--json", "--spec", str(coarse)).json
    assert told["digest"] == spec.digest
    assert [row["name"] for row in told["features"]] == list(spec.feature_names)
    assert [row["column"] for row in told["features"]] == list(range(spec.n_features))
    for row in told["features"]:
        info = spec.describe(row["name"])
        assert (row["unit"], row["bound"], row["text"]) == (info.unit, info.bound, info.text)


def test_the_spec_of_the_environment_is_listed(
    run: Any, coarse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISKBEAT_SPEC_PATH", str(coarse))
    assert run("list", "--json").json["digest"] == Spec.load(coarse).digest


def test_a_check_reports_digest_counts_and_sizes(run: Any, coarse: Path) -> None:
    spec = Spec.load(coarse)
    ran = run("check", "--spec", str(coarse))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{coarse}: good\ndigest    {spec.digest}\n")
    told = run("check", "--json", "--spec", str(coarse)).json
    assert (told["digest"], told["features"]) == (spec.digest, spec.n_features)
    for entity, cost in zip(spec.entities, told["entities"], strict=True):
        assert cost["state_bytes_max"] == state_bytes_max(spec, entity) <= 8192
        assert f"{cost['state_bytes_max']:,} B" in ran.out
        assert cost["key"] == list(entity.key)


def test_a_check_warns_of_tiles_that_had_to_be_coarse(run: Any, coarse: Path) -> None:
    ran = run("check", "--spec", str(coarse))
    told = run("check", "--json", "--spec", str(coarse)).json
    [card, *_] = Spec.load(coarse).entities
    wide = {level.window_ms: level.tile_ms for level in card.levels}
    finest = {window_ms: max(1, window_ms // 64) for window_ms in wide}
    expected = {tile for window, tile in wide.items() if tile > finest[window]}
    assert expected
    assert {one["tile_ms"] for one in told["coarse"]} == expected
    assert all(one["times_finest"] >= 2 for one in told["coarse"])
    assert "warning: " in ran.out
    assert "limits.blob_max_bytes" in ran.out
    roomy = coarse.with_name("roomy.yaml")
    roomy.write_text(COARSE.replace("8192", "1000000"))
    assert run("check", "--json", "--spec", str(roomy)).json["coarse"] == []
    assert "warning" not in run("check", "--spec", str(roomy)).out


@pytest.mark.parametrize("command", [["list"], ["check"], ["explain", "card.count_over_1h"]])
def test_a_broken_spec_is_one_line_with_its_place_and_code_2(
    run: Any, tmp_path: Path, command: list[str]
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(COARSE.replace("since_last: true", "since_last: maybe"))
    ran = run(*command, "--spec", str(broken))
    line = COARSE.splitlines().index("    since_last: true") + 1
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        f"riskbeat: broken.yaml:{line}: entities.card.since_last:"
        " expected one of: false, true; got 'maybe'\n"
    )
    absent = run("check", "--spec", str(tmp_path / "absent.yaml"))
    assert (absent.code, len(absent.err.splitlines())) == (2, 1)


def test_every_feature_is_explained(run: Any) -> None:
    spec = Spec.load(SHIPPED)
    for name in spec.feature_names:
        told = run("explain", name, "--json", "--spec", str(SHIPPED)).json
        explained = told["explained"]
        assert explained["means"] == spec.describe(name).text
        assert explained["missing"]
        assert explained["stored"]
        assert spec.feature_names[int(explained["column"].split()[0])] == name
        if told["entity"] != "event":
            assert explained["cost"]


def test_an_explanation_reads_like_this(run: Any, coarse: Path) -> None:
    spec = Spec.load(coarse)
    told = run("explain", "card.count_over_1h", "--spec", str(coarse)).out
    assert told.startswith("card.count_over_1h\n  means    number of events of the card in (t - 1h")
    assert f"  bound    {spec.describe('card.count_over_1h').bound}\n" in told
    assert "  missing  never; 0 where nothing happened\n" in told
    assert "(<tenant>␟card␟<card>): the newest 256 events" in told
    assert "  used by  card.count_over_1h_per_card.count_over_30d\n" in told
    pair = run("explain", "pair.sum_of_amount_over_1h", "--spec", str(coarse)).out
    assert "pair, told apart by card + merchant" in pair
    assert "(<tenant>␟pair␟<card>␟<merchant>)" in pair


def test_a_feature_that_is_none_is_named_with_those_that_are_near(run: Any) -> None:
    ran = run("explain", "card.cnt_over_1h", "--spec", str(SHIPPED))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("riskbeat: no feature is called 'card.cnt_over_1h'; close to it: ")
    assert "card.count_over_1h" in ran.err
    assert len(ran.err.splitlines()) == 1
