"""settings → the steps behind what is only asked of a serve process: dry runs and lookups."""

from collections.abc import Callable

from api.dry_run import DryRuns, dry_decider
from api.lookup import LookupDesk
from api.lookup_sqlite import SqliteReader
from api.overlay import Overlay
from features.spec import Spec
from features.store import FeatureReader
from models.policy_ruling import Ruler
from models.scorer import Scorer
from riskbeat.index import index_path
from riskbeat.settings import Settings


def dry_runs(
    settings: Settings,
    spec: Spec,
    ruler: Ruler,
    store: FeatureReader,
    scorer: Scorer,
    overlay: Overlay,
    now_ms: Callable[[], int],
) -> DryRuns:
    """Return the step of dry runs, on the states, weights and overlay of those that count."""
    decider = dry_decider(spec, ruler, store, scorer, overlay, now_ms)
    return DryRuns(decider, settings.features_timeout_s)


def lookups(settings: Settings, now_ms: Callable[[], int]) -> LookupDesk:
    """Return the step of lookups, on this machine's index."""
    return LookupDesk(SqliteReader(index_path(settings)), now_ms)
