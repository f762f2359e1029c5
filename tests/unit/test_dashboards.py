"""The committed dashboards are those that the code makes, and ask for what processes export."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from riskbeat.dashboards import DASHBOARDS, ROOM, Dashboard, encode_dashboard
from riskbeat.documented_metrics import PROCESSES, documented

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
SERIES = {
    series for process in PROCESSES for metric in documented(process) for series in metric.series
}
each = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)


def panels_of(dashboard: Dashboard) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(encode_dashboard(dashboard))["panels"]
    return panels


@each
def test_the_file_is_what_the_code_makes(dashboard: Dashboard) -> None:
    file = GRAFANA / "dashboards" / f"{dashboard.uid}.json"
    assert file.read_text() == encode_dashboard(dashboard), "riskbeat dashboards"


def test_no_other_file_lies_beside_them() -> None:
    files = {path.stem for path in (GRAFANA / "dashboards").iterdir()}
    assert files == {dashboard.uid for dashboard in DASHBOARDS}


@each
def test_every_query_asks_for_what_is_documented(dashboard: Dashboard) -> None:
    for panel in panels_of(dashboard):
        for target in panel["targets"]:
            asked = set(re.findall(r"\briskbeat_[a-z_]+", target["expr"]))
            assert asked <= SERIES, panel["title"]
            assert asked or target["expr"] == "sum by (job) (up)"


@each
def test_every_panel_has_its_place_and_every_query_its_letter(dashboard: Dashboard) -> None:
    taken = set()
    for panel in panels_of(dashboard):
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= ROOM
        assert (place["x"], place["y"]) not in taken
        taken.add((place["x"], place["y"]))
        letters = [target["refId"] for target in panel["targets"]]
        assert len(letters) == len(set(letters)) > 0
    titles = [panel["title"] for panel in panels_of(dashboard)]
    assert len(titles) == len(set(titles))


def test_grafana_finds_source_and_files_where_compose_mounts_them() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    grafana = compose["grafana"]
    assert grafana["profiles"] == ["dashboards"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    uids = {t["datasource"]["uid"] for d in DASHBOARDS for p in panels_of(d) for t in p["targets"]}
    assert uids == {source["uid"]}
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert host in compose
    assert compose[host]["ports"][0].endswith(f":{port}")
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/riskbeat.yml").read_text())[
        "providers"
    ]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
