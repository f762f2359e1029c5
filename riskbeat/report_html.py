"""Evaluation, pictures → one HTML page that needs nothing else: it opens from disk, and prints."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from pipeline.evaluation import Belief, Evaluation
from pipeline.judged_columns import CHAMPION

DAYS_SHOWN: Final = 62
MARKS_SHOWN: Final = 100
CHAMPION_CELL: Final = ' class="champion"'
NONE = TO = "\u2013"
ROWS: Final = (
    ("judged", "predictions judged", 0),
    ("average_precision", "average precision (AP)", 3),
    ("roc_auc", "AUC: a fraud scores above an honest payment", 3),
    ("card_precision_at_100", "compromised cards among the day's 100 highest (CP@100)", 3),
    ("recall_at_tenth_percent_fpr", "recall at 0.1 % false positives", 3),
    ("recall_at_half_percent_fpr", "recall at 0.5 % false positives", 3),
    ("recall_at_one_percent_fpr", "recall at 1 % false positives", 3),
    ("recall_at_half_percent_alerted", "recall when 0.5 % are alerted", 3),
    ("recall_at_one_percent_alerted", "recall when 1 % are alerted", 3),
    ("value_detection_at_half_percent", "fraud money found when 0.5 % are alerted", 3),
    ("value_detection_at_one_percent", "fraud money found when 1 % are alerted", 3),
    ("false_positives_per_fraud_at_half_percent", "false alarms per fraud, 0.5 % alerted", 2),
    ("brier", "Brier score", 5),
    ("calibration_error", "calibration error", 4),
    ("cost_at_half_percent", "cost per event when 0.5 % are alerted", 2),
    ("lowest_cost", "cost per event from the best probability upwards", 2),
    ("lowest_cost_threshold", "the best probability, known afterwards", 4),
)
DAILY: Final = (
    ("average_precision", "AP", 3),
    ("roc_auc", "AUC", 3),
    ("card_precision_at_100", "CP@100", 3),
    ("recall_at_half_percent_fpr", "recall at 0.5 % FPR", 3),
    ("value_detection_at_half_percent", "money found", 3),
    ("brier", "Brier", 5),
)
AGAINST: Final = (
    ("average_precision", "AP"),
    ("card_precision_at_100", "CP@100"),
    ("recall_at_half_percent_fpr", "R@0.5%"),
)
STYLE: Final = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:#1a1a1a;background:#fff;
margin:0 auto;padding:2rem 1.5rem 4rem;max-width:1100px}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2.6rem 0 .4rem;
border-top:1px solid #ddd;padding-top:1rem}
p.note,caption,footer{color:#555;font-size:.87rem;max-width:75ch}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.6rem;
margin:1.2rem 0}
.tile{border:1px solid #ddd;border-radius:8px;padding:.6rem .8rem}
.tile b{display:block;font-size:1.35rem;font-weight:600;font-variant-numeric:tabular-nums}
.tile span{color:#555;font-size:.82rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;margin:.6rem 0}
th,td{padding:.28rem .6rem;text-align:right;border-bottom:1px solid #eee;white-space:nowrap;
font-variant-numeric:tabular-nums}
th{color:#444;font-weight:600}th:first-child,td:first-child{text-align:left}
td.champion{background:#eef4f8;font-weight:600}th.words,td.words{text-align:left}
figure{margin:.6rem 0}svg{max-width:100%;height:auto;display:block}
@media print{h2{break-after:avoid}figure,.tile{break-inside:avoid}}
"""


def page_of(evaluation: Evaluation, pictures: Mapping[str, str], source: str) -> str:
    """Return the page.

    Args:
        evaluation: What it says.
        pictures: Name → `<svg>` element.
        source: Where the rows came from.
    """
    counts = evaluation.counts
    span = f"{_day(counts.first_event)} to {_day(counts.last_event)}"
    body = [
        "<h1>How well the predictions came true</h1>",
        f'<p class="note">{counts.judged:,} predictions on events of {span} (UTC), judged when '
        f"their truth was known, by what was believed when they were decided. {escape(source)}</p>",
        _tiles(evaluation),
        "<h2>Champion and challengers</h2>",
        '<p class="note">The champion is what decided; members and challengers are judged by what '
        "they believed when the learner took the decision in. Costs are in minor units.</p>",
        _predictors(evaluation.predictors),
        _against(evaluation.predictors),
        _picture(pictures, "pr"),
        "<h2>Over time</h2>",
        f'<p class="note">Dots: one event day each. Lines: the newest {evaluation.rolling_rows:,} '
        "judged predictions. On top: the newest version that answered on that day. Dashed lines: "
        "marks (below).</p>",
        _picture(pictures, "time"),
        _marks(evaluation),
        "<h2>What a threshold costs</h2>",
        f'<p class="note">A missed fraud costs its amount, a false alarm '
        f"{evaluation.costs.false_alarm:,.0f}, a review {evaluation.costs.review:,.0f} minor units "
        "of the base currency. The best threshold is known only afterwards: it is a suggestion for "
        "the next weeks, not a promise.</p>",
        _costs(evaluation),
        _picture(pictures, "cost"),
        "<h2>Are probabilities probabilities?</h2>",
        '<p class="note">On the dotted line, 2 % means two of a hundred. Bars: 95 % intervals '
        "(Wilson).</p>",
        _picture(pictures, "reliability"),
        "<h2>What was judged, and how late</h2>",
        _sources(evaluation),
        _picture(pictures, "counts"),
        _picture(pictures, "delays"),
        "<h2>Day by day</h2>",
        _days(evaluation),
        "<footer><p>Rows let through by chance count for 1 / propensity; card precision counts "
        f"cards. A figure that does not exist, as without fraud, is shown as {NONE}.</p></footer>",
    ]
    title = f"riskbeat evaluation, {span}"
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
    )
    return f"{head}<body>\n" + "\n".join(part for part in body if part) + "\n</body></html>\n"


def _tiles(evaluation: Evaluation) -> str:
    counts, champion = evaluation.counts, evaluation.predictors[0].figures
    rate = champion.get("fraud_rate")
    tiles = [
        (f"{counts.judged:,}", "predictions judged"),
        (f"{counts.frauds:,}", f"frauds ({NONE if rate is None else f'{100 * rate:.2f} %'})"),
        (_number(champion.get("average_precision"), 3), "average precision"),
        (_number(champion.get("card_precision_at_100"), 3), "card precision @100"),
        (_number(champion.get("recall_at_half_percent_fpr"), 3), "recall at 0.5 % FPR"),
        (_number(champion.get("value_detection_at_half_percent"), 3), "of fraud money at 0.5 %"),
        (f"{counts.versions[0]:,}{TO}{counts.versions[1]:,}", "versions that answered"),
    ]
    if counts.passed_through:
        words = f"let through by chance, {counts.passed_through_frauds:,} of them fraud"
        tiles.append((f"{counts.passed_through:,}", words))
    cells = "".join(f'<div class="tile"><b>{a}</b><span>{escape(b)}</span></div>' for a, b in tiles)
    return f'<div class="tiles">{cells}</div>'


def _predictors(predictors: Sequence[Belief]) -> str:
    heads = "".join(f"<th>{escape(one.name)}</th>" for one in predictors)
    rows = []
    for name, words, digits in ROWS:
        cells = "".join(
            f"<td{CHAMPION_CELL if one.name == CHAMPION else ''}>"
            f"{_number(one.figures.get(name), digits)}</td>"
            for one in predictors
        )
        rows.append(f"<tr><td>{escape(words)}</td>{cells}</tr>")
    return _table(f"<th>figure</th>{heads}", rows)


def _against(predictors: Sequence[Belief]) -> str:
    rows = []
    for one in predictors:
        if one.against:
            cells = "".join(
                f"<td>{found.mean:+.3f} ± {found.sd:.3f}</td>"
                if (found := one.against.get(name))
                else "<td>\u2013</td>"
                for name, _ in AGAINST
            )
            days = max(found.days for found in one.against.values())
            rows.append(f"<tr><td>{escape(one.name)}</td><td>{days}</td>{cells}</tr>")
    if not rows:
        return ""
    heads = "".join(f"<th>{escape(head)}</th>" for _, head in AGAINST)
    note = (
        '<p class="note">Minus the champion, paired by event day: mean ± standard deviation of the '
        "days.</p>"
    )
    return note + _table(f"<th>predictor</th><th>days</th>{heads}", rows)


def _marks(evaluation: Evaluation) -> str:
    rows = [
        f'<tr><td>{_time(mark.at_ms)}</td><td class="words">{escape(mark.kind)}</td>'
        f'<td class="words">{escape(mark.text)}</td></tr>'
        for mark in evaluation.marks[-MARKS_SHOWN:]
    ]
    if not rows:
        return '<p class="note">No drift was found, and nobody froze the model.</p>'
    more = len(evaluation.marks) - len(rows)
    note = f'<p class="note">{more:,} older marks are not listed.</p>' if more > 0 else ""
    head = '<th>event time (UTC)</th><th class="words">mark</th><th class="words">where</th>'
    return _table(head, rows) + note


def _costs(evaluation: Evaluation) -> str:
    champion = evaluation.predictors[0]
    rows: list[tuple[str, float | None, float]] = [("nothing is alerted", None, champion.cost.y[0])]
    rows += [
        (f"policy: {bound.outcome} and above", bound.threshold, bound.cost_per_event)
        for bound in evaluation.bounds
    ]
    rows += [
        (f"best for {one.name}", one.figures.get("lowest_cost_threshold"), least)
        for one in evaluation.predictors
        if (least := one.figures.get("lowest_cost")) is not None
    ]
    cells = [
        f"<tr><td>{escape(words)}</td><td>{_threshold(threshold)}</td>"
        f"<td>{1000 * cost:,.0f}</td></tr>"
        for words, threshold, cost in rows
    ]
    return _table("<th>alert</th><th>from probability</th><th>cost of 1,000 events</th>", cells)


def _sources(evaluation: Evaluation) -> str:
    rows = [
        f"<tr><td>{escape(name)}</td><td>{count:,}</td></tr>"
        for name, count in evaluation.counts.sources.items()
    ]
    return _table("<th>whose word is the truth</th><th>events</th>", rows)


def _days(evaluation: Evaluation) -> str:
    rows = []
    for day in evaluation.days[-DAYS_SHOWN:]:
        figures = day.figures[CHAMPION]
        cells = "".join(
            f"<td>{_number(figures.get(name), digits)}</td>" for name, _, digits in DAILY
        )
        low, high = day.versions
        rows.append(
            f"<tr><td>{_day(day.day)}</td><td>{day.judged:,}</td><td>{day.frauds:,}</td>"
            f"<td>{day.passed_through:,}</td><td>{low:,}{TO}{high:,}</td>{cells}</tr>"
        )
    heads = "".join(f"<th>{escape(head)}</th>" for _, head, _ in DAILY)
    more = len(evaluation.days) - len(rows)
    note = (
        f'<p class="note">{more} earlier days are not listed; --from and --to choose others.</p>'
        if more > 0
        else ""
    )
    first = "<th>event day</th><th>judged</th><th>frauds</th><th>let through</th><th>versions</th>"
    return note + _table(first + heads, rows)


def _picture(pictures: Mapping[str, str], name: str) -> str:
    return f'<figure id="{name}">{pictures[name]}</figure>'


def _table(heads: str, rows: Sequence[str]) -> str:
    body = "\n".join(rows)
    return f'<div class="wide"><table><tr>{heads}</tr>\n{body}\n</table></div>'


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _threshold(value: float | None) -> str:
    return "alert nothing" if value is not None and value >= 1 else _number(value, 4)


def _day(at: datetime) -> str:
    return at.date().isoformat()


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
