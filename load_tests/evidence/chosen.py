"""Which rows of which measurements the README shows."""

from typing import NamedTuple


class Chosen(NamedTuple):
    """A file of `docs/evidence`, how it is made, and what of it is shown.

    Attributes:
        file: Without its folder and suffix.
        arguments: Of `python -m load_tests.…`, without `--out`.
        rows: Patterns; each must match the whole `what` of at least one row of the file.
    """

    file: str
    arguments: str
    rows: tuple[str, ...]


CHOSEN = (
    Chosen(
        "features",
        "features --only saturation,freshness",
        (
            "saturation: Kafka → Redis.*",
            r"freshness at 200/s: event due → readable in Redis, p\d+",
            "freshness: live saturated rate",
            "freshness at half of the live saturated rate: event due.*(mean|p99)",
        ),
    ),
    Chosen(
        "features_takeover",
        "features --only takeover,labels",
        (
            "takeover: detection → first commit of every moved partition, worst",
            "labels: transitions, beside the events",
        ),
    ),
    Chosen(
        "features_entities",
        "features --only entities",
        ("entities: .*: worker CPU per event", "entities: cost per event grows by"),
    ),
    Chosen("features_bytes", "features --only bytes", (".*ordinary card, features.yaml",)),
    Chosen(
        "kernel",
        "kernel",
        (
            "apply \\+ evaluate, .*1d, 7d",
            "4 states → vector of 121, goal's spec, (in a batch of 1000|one at a time)",
            "5 states → vector of 105, shipped spec, (in a batch of 1000|one at a time)",
        ),
    ),
    Chosen(
        "chaos_features",
        "chaos_features --kills 200 --seed 7",
        (
            "kill -9 of workers",
            "states compared",
            "states that differ from the recomputation",
            "takeover after detection: .*",
        ),
    ),
    Chosen(
        "chaos",
        "chaos --seeds 20",
        (
            "seeds",
            "faults",
            "events",
            "states that are not those of the log",
            "events whose label was lost or counted twice",
            "decisions that recomputation makes otherwise.*",
            "answers over their deadline",
            "(kill -9 of .*|restart of Kafka|Redis loses its last second): back after, p50",
        ),
    ),
    Chosen(
        "soak",
        "soak --plot docs/evidence/soak.svg",
        (
            "soak: (minutes|load, half of saturation)",
            ".*: resident memory, growth",
            "serve: open files, more at the end",
            "p99 in the last third by the first",
            "answers over their deadline",
        ),
    ),
    Chosen(
        "operate_start",
        "operate --only start",
        ("docker compose up --wait, images built → first decision",),
    ),
    Chosen(
        "operate_rolling",
        "operate --only rolling",
        ("rolling: requests that failed", "rolling: answers over 100 ms.*", "rolling: p99.*"),
    ),
    Chosen(
        "operate",
        "operate --only watching",
        ("decisions, watched by metrics and 1 % traces: cost",),
    ),
    Chosen("rebuild", "rebuild", ("rebuild: .*",)),
    Chosen(
        "drill",
        "drill",
        (
            "alerts that did not fire",
            "alerts that stayed",
            "alerts that fired with nothing broken",
            "alerts without a drill",
        ),
    ),
    Chosen("label_serving", "label_serving", ("label appended → .*",)),
    Chosen(
        "learning_handbook",
        "learning_handbook",
        (
            "ensemble: (average precision|AUC|card precision@100)",
            "XGBoost nightly: (average precision|AUC|card precision@100)",
            "ensemble: CPU for one of XGBoost's",
        ),
    ),
    Chosen(
        "learning",
        "learning",
        (
            "network, (as shipped|new rows only): learned in batches of 64",
            r"peers: .*: (average precision|rows per CPU-second)",
        ),
    ),
    Chosen(
        "adaptation",
        "adaptation --delays 0 '7 d'",
        ("labels after .*: days until recall is back",),
    ),
    Chosen(
        "chaos_learning",
        "chaos_learning --kills 100 --seed 5",
        (
            "kill -9 of the learner",
            "versions missing.*",
            "events whose label was lost or counted twice",
            "versions that an uninterrupted learner makes otherwise",
            "start → next version: max",
        ),
    ),
    Chosen(
        "scoring",
        "scoring --only answers,latency,curve,batch,swaps,reasons",
        (
            "decisions per worker CPU-second, full answer.*",
            r"at \d+/s, open loop.*: p.*",
            "curve: largest p99 past saturation",
            "batch route.*",
            "a swap every .*",
            "reasons on every answer: cost",
        ),
    ),
    Chosen(
        "scoring_bare",
        "scoring --only bare --peers",
        (
            r"bare workload, our door \((socket|asgi)\)",
            "bare workload, (mosec|FastAPI|LitServe)[^:]*",
            "bare workload, ours / the best peer",
        ),
    ),
    Chosen(
        "swaps",
        "swaps --plot docs/evidence/swaps.svg",
        (
            "versions swapped in",
            "answers computed again, bit for bit",
            "answers that are not what their version gives",
            "HTTP answers other than 200",
            "p99 grows by",
            "resident memory grows by",
        ),
    ),
    Chosen(
        "weights",
        "weights",
        (
            r"score a batch of (1|256), both",
            r"50 M parameters: bytes of a (delta|full version)",
            "50 M parameters: (encode a delta, tables compared|verify and apply a delta)",
            "50 M parameters: write the scorer's bank",
        ),
    ),
    Chosen(
        "reasons",
        "reasons",
        ("closed form: largest error of a contribution", "reasons in words, batch of (1|32), .*"),
    ),
    Chosen(
        "fuzz",
        "fuzz",
        (
            "broken bodies that were answered",
            "answers that broke the promise",
        ),
    ),
)
