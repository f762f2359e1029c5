"""Every alert says how bad it is and what to do, and asks for what the processes really export."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from riskbeat.documented_metrics import PROCESSES, documented

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
CASES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
SERIES = {
    series for process in PROCESSES for metric in documented(process) for series in metric.series
}
by_alert = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


@by_alert
def test_an_alert_says_how_bad_it_is_and_since_when(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert re.fullmatch(r"\d+[sm]", rule["for"])
    assert rule["annotations"]["summary"].endswith(".")


@by_alert
def test_an_alert_has_a_page(rule: dict[str, Any]) -> None:
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page.parent == RUNBOOKS
    text = page.read_text()
    assert rule["alert"] in text
    for heading in ("## What it means", "## How to look", "## What to do", "## How it was tried"):
        assert heading in text, f"{page.name}: {heading}"


@by_alert
def test_an_alert_asks_for_what_is_documented(rule: dict[str, Any]) -> None:
    asked = set(re.findall(r"\briskbeat_[a-z_]+", rule["expr"]))
    assert asked <= SERIES
    assert asked or "up{" in rule["expr"]


@by_alert
@pytest.mark.parametrize("case", ["fires", "is silent"])
def test_an_alert_has_a_case_of_each_kind(rule: dict[str, Any], case: str) -> None:
    name = f"{rule['alert']} {case}: "
    mine = [one for one in CASES if one["name"].startswith(name)]
    assert mine
    for one in mine:
        (asked,) = one["promql_expr_test"]
        assert f'alertname="{rule["alert"]}"' in asked["expr"]
        assert bool(asked["exp_samples"]) == (case == "fires")


def test_every_page_belongs_to_an_alert() -> None:
    pages = {f"docs/runbooks/{path.name}" for path in RUNBOOKS.glob("*.md")}
    assert pages == {rule["annotations"]["runbook_url"] for rule in RULES} | {
        "docs/runbooks/README.md"
    }


def test_prometheus_loads_the_alerts_from_where_they_are_mounted() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = [volume.split(":")[:2] for volume in services["prometheus"]["volumes"]]
    for file in config["rule_files"]:
        assert [f"./deploy/prometheus/{file}", f"/etc/prometheus/{file}"] in mounts
