"""panels → Grafana's JSON: the dashboards of `deploy/grafana/dashboards`.

They are made by `riskbeat dashboards`; a test keeps the files equal to what this makes, and a live
one asks a real Prometheus every question that they ask.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from riskbeat.dashboard_panels import ANALYST, PATH, Panel

SCHEMA_VERSION = 39
SOURCE = {"type": "prometheus", "uid": "riskbeat"}
ROOM = 24  # Grafana's columns
HEIGHT = 7


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page.

    Attributes:
        uid: Its file is named after it, and so is its address.
        rows: From the top; the panels of one share its width.
    """

    uid: str
    title: str
    text: str
    rows: tuple[tuple[Panel, ...], ...]


DASHBOARDS = (
    Dashboard(
        "riskbeat-path",
        "riskbeat: the path",
        "From left to right as an event goes; from the top: how much, how fast, how far behind, "
        "what fails, how full.",
        PATH,
    ),
    Dashboard(
        "riskbeat-analyst",
        "riskbeat: decisions and truth",
        "What is decided and why, what became of it, and what moves.",
        ANALYST,
    ),
)


def write_dashboards(folder: Path) -> list[Path]:
    """Write a file for each dashboard; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for dashboard in DASHBOARDS:
        path = folder / f"{dashboard.uid}.json"
        path.write_text(encode_dashboard(dashboard))
        paths.append(path)
    return paths


def encode_dashboard(dashboard: Dashboard) -> str:
    """Return a dashboard as Grafana reads it from a file."""
    panels: list[dict[str, Any]] = []
    for y, row in enumerate(dashboard.rows):
        width = ROOM // len(row)
        for x, panel in enumerate(row):
            place = {"x": x * width, "y": y * HEIGHT, "w": width, "h": HEIGHT}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
    page = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.text,
        "tags": ["riskbeat"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "panels": panels,
    }
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "type": "timeseries",
        "datasource": SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "custom": {"fillOpacity": 10, "showPoints": "never"}},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": letter, "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for letter, (legend, expr) in zip(ascii_uppercase, panel.asks, strict=False)
        ],
    }
