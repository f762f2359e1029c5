"""settings → what a process rules by: the policy file, and what the store says of it since."""

import getpass
import socket
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from api.policy_metrics import PolicyMetrics
from api.policy_watch import PolicyWatcher
from features.client_redis import Client
from features.spec import Spec
from models.audit_trail import Trail
from models.policy import read_text
from models.policy_cel import CelCompiler
from models.policy_lists_redis import RedisLists
from models.policy_ruling import Rulebook, Ruler, compile_policy
from models.policy_store import KeptPolicy
from riskbeat.noted import NotedPolicies
from riskbeat.settings import Settings

SEED_WHY = "the policy file of a fresh deployment"

log = structlog.get_logger("policy")


def compile_text(text: str, name: str, spec: Spec) -> Rulebook:
    """Check a policy's text against a spec; `name` stands for the file in errors.

    Raises:
        PolicyError: It is no policy for this spec.
    """
    return compile_policy(text, name, spec, CelCompiler)


def kept_of(path: Path, spec: Spec, by: str, why: str) -> tuple[KeptPolicy, Rulebook]:
    """Read a policy file as it would be applied.

    Raises:
        PolicyError: The file is absent, or no policy for this spec.
    """
    text = read_text(path)
    book = compile_text(text, path.name, spec)
    kept = KeptPolicy(
        version=book.policy.version,
        digest=book.digest,
        text=text,
        by=by,
        why=why,
        at_ms=time.time_ns() // 1_000_000,
    )
    return kept, book


class Heard:
    """Writes down what happens to the policy, in the log and in the metrics."""

    def __init__(self, metrics: PolicyMetrics) -> None:
        """Take the metrics."""
        self._metrics = metrics

    def policy_activated(self, version: int, digest: str) -> None:
        """A policy counts in this process."""
        self._metrics.version.set(version)
        log.info("policy.activated", policy_version=version, digest=digest[:12])

    def policy_refused(self, version: int, detail: str) -> None:
        """The policy that counts is none here; the one at hand goes on."""
        self._metrics.refused.inc()
        log.error("policy.refused", policy_version=version, detail=detail)

    def rule_halted(self, rule: str, why: str) -> None:
        """This process halted a rule."""
        self._metrics.halts.inc()
        log.warning("rule.halted", rule=rule, why=why)

    def rule_failed(self, rule: str, detail: str) -> None:
        """A rule failed on an event, for the first time under this policy."""
        log.warning("rule.failed", rule=rule, detail=detail)

    def lists_changed(self, entries: int) -> None:
        """The copy of the lists follows the store."""
        self._metrics.list_entries.set(entries)

    def policy_store_failed(self, detail: str) -> None:
        """The store did not answer; all stays as it is."""
        log.warning("policy_store.unavailable", detail=detail)


def policy_watcher(
    settings: Settings,
    spec: Spec,
    client: Client,
    metrics: PolicyMetrics,
    scorer_id: str,
    trail: Trail,
    now_ms: Callable[[], int],
) -> PolicyWatcher:
    """Return what keeps a scorer's ruler up to date; until then it rules by the policy file.

    Raises:
        PolicyError: The file is absent, or no policy for this spec.
    """
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    seed, book = kept_of(settings.policy_path, spec, by, SEED_WHY)
    metrics.version.set(seed.version)
    return PolicyWatcher(
        NotedPolicies(trail, client, settings.redis_prefix),
        RedisLists(client, settings.redis_prefix, settings.list_entries_max),
        Ruler(spec, book),
        lambda text, name: compile_text(text, name, spec),
        seed,
        scorer_id,
        Heard(metrics),
        settings.policy_poll_s,
        now_ms,
    )
