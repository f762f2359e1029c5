"""Offered load, up to and past saturation → latency of what was accepted: rows and a plot."""

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from load_tests.report import Row
from load_tests.scoring_stage import Load, Site

SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
QUICK_SHARES = (0.5, 1.0, 1.5)
SECONDS, QUICK_SECONDS = 5.0, 3.0
CONNECTIONS = 400
FLAT = 3.0  # p99 past saturation against that at 80 %


def measure_curve(site: Site, per_s: float, quick: bool, out: Path) -> list[Row]:
    """Offer shares of the saturated rate; write the points and their plot beside `out`."""
    points: list[tuple[float, Load]] = []
    rows: list[Row] = []
    for share in QUICK_SHARES if quick else SHARES:
        rate = share * per_s
        load = site.ask(
            QUICK_SECONDS if quick else SECONDS, rate=rate, connections=CONNECTIONS, warm_s=1.5
        )
        points.append((rate, load))
        result = load.result
        note = (
            f"answered {load.per_s:.0f}/s, p50 {result.ms.get('p50', 0):.2f}, p99.9 "
            f"{result.ms.get('p99.9', 0):.2f}; refused p99 {result.refused_ms.get('p99', 0):.2f} "
            f"ms; statuses {result.statuses}; the client's own p99 {result.late_ms:.2f} ms"
        )
        what = f"curve: {share:.0%} of saturation, {rate:.0f}/s offered: p99 of what was accepted"
        rows.append(Row(what, result.ms.get("p99"), "ms", better="lower", note=note))
    worst = max(load.result.ms.get("p99", float("inf")) for rate, load in points if rate > per_s)
    rows.append(Row("curve: largest p99 past saturation", worst, "ms", 80, 25, "lower"))
    plot(points, per_s, out.with_suffix(".curve.svg"))
    out.with_suffix(".curve.json").write_text(
        json.dumps(
            [
                {
                    "offered_per_s": rate,
                    "answered_per_s": load.per_s,
                    "ms": load.result.ms,
                    "refused_ms": load.result.refused_ms,
                    "statuses": load.result.statuses,
                }
                for rate, load in points
            ],
            indent=1,
        )
        + "\n"
    )
    return rows


def plot(points: list[tuple[float, Load]], per_s: float, path: Path) -> None:
    """Draw latency and goodput against offered load."""
    mpl.use("agg")
    figure = Figure(figsize=(8, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    offered = [rate for rate, _ in points]
    for name in ("p50", "p99", "p99.9"):
        values = [load.result.ms.get(name, float("nan")) for _, load in points]
        upper.plot(offered, values, marker="o", label=name)
    refused = [load.result.refused_ms.get("p99", float("nan")) for _, load in points]
    upper.plot(offered, refused, marker="x", linestyle=":", label="p99 of refusals")
    upper.set_yscale("log")
    upper.set_ylabel("ms from when it was due")
    upper.legend()
    lower.plot(offered, offered, color="grey", linewidth=1, label="offered")
    lower.plot(offered, [load.per_s for _, load in points], marker="o", label="answered with 200")
    lower.set_ylabel("per second")
    lower.set_xlabel("requests offered per second")
    lower.legend()
    for axes in (upper, lower):
        axes.axvline(per_s, color="grey", linestyle="--", linewidth=1)
        axes.grid(alpha=0.3)
    upper.set_title("One worker on one core: accepted requests past saturation (dashed)")
    figure.savefig(path)
