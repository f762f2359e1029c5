"""labels per source and hour → which source does what it never did: a flood, or another mix.

The test, per source: an hour with more labels (or more fraud labels) than
mean + z·√max(variance, mean, 1) of that source's own hours of about the last week, and more than
`burst_min`; and of every `share_rows` labels a share of frauds that is `share_shift` and z standard
errors away from the source's usual one. Nothing is tested before `hours_min` hours are known.

Hours that stand out enter the history only up to the limit that they broke, so that a lasting
change becomes usual slowly, and an attack does not at once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

HOUR_MS = 3_600_000
SILENT = ("", "silence")
"""Names of no source: what was learned because nobody said a word."""
SOURCES_MAX = 64
"""Further sources are not watched: the step limiter and the caps hold for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRules:
    """When labels of a source are out of the ordinary; see the module.

    Attributes:
        z: Standard deviations. By Cantelli's inequality an hour of an unchanged source, whatever
            its distribution, exceeds the limit with a chance of at most 1/(1 + z²).
        burst_min: Labels of an hour that are never too many.
        hours_min: Hours that must be known of a source before it is tested.
        memory_hours: Hours after which history has faded to 1/e.
        share_rows: Labels over which a share of frauds is taken.
        share_shift: Smallest change of that share that counts.
    """

    z: float = 8.0
    burst_min: int = 100
    hours_min: int = 24
    memory_hours: float = 168.0
    share_rows: int = 200
    share_shift: float = 0.2


class _Series(msgspec.Struct):
    """Hourly counts: the hour under way, and faded sums of those before."""

    now: float = 0.0
    hours: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def limit(self, z: float) -> float:
        """Return the count beyond which an hour stands out; some hours must be known."""
        mean = self.total / self.hours
        variance = max(self.squares / self.hours - mean**2, mean, 1.0)
        return mean + z * math.sqrt(variance)

    def end_hours(self, count: int, fade: float, cap: float) -> None:
        """Enter the hour under way, and `count` - 1 empty ones after it."""
        value = min(self.now, cap)
        self.hours = self.hours * fade + 1
        self.total = self.total * fade + value
        self.squares = self.squares * fade + value**2
        empty = fade ** (count - 1)
        # 1 + fade + … over the empty hours
        self.hours = self.hours * empty + (1 - empty) / (1 - fade)
        self.total *= empty
        self.squares *= empty
        self.now = 0.0


class _Source(msgspec.Struct):
    labels: _Series
    frauds: _Series
    known_hours: int = 0
    block: tuple[float, float] = (0.0, 0.0)  # labels, frauds of the block under way
    usual: tuple[float, float] = (0.0, 0.0)  # faded, over blocks
    shift: float = 0.0  # of the newest whole block; 0 = nothing out of the ordinary


class _State(msgspec.Struct):
    hour: int
    sources: dict[str, _Source]


class LabelRates:
    """What each source usually does, and which ones do something else now."""

    def __init__(self, rules: RateRules) -> None:
        """Begin without history."""
        self._rules = rules
        self._state = _State(-1, {})

    def observe(self, counts: Mapping[str, int], frauds: Mapping[str, int], clock_ms: int) -> None:
        """Take labels that came in.

        Args:
            counts: Source → labels; `SILENT` ones are not watched.
            frauds: Source → those that said fraud.
            clock_ms: Largest event time decided; it only grows.
        """
        self._end_hours(clock_ms // HOUR_MS)
        for source, count in counts.items():
            if source in SILENT:
                continue
            held = self._state.sources.get(source)
            if held is None:
                if len(self._state.sources) >= SOURCES_MAX:
                    continue
                held = self._state.sources[source] = _Source(_Series(), _Series())
            fraud = frauds.get(source, 0)
            held.labels.now += count
            held.frauds.now += fraud
            self._count_share(held, count, fraud)

    def causes(self) -> dict[str, tuple[float, str]]:
        """Return what stands out now: name of the cause → (how much, in words)."""
        found = {}
        rules = self._rules
        for source, held in self._state.sources.items():
            if held.known_hours >= rules.hours_min:
                for what, series in (("labels", held.labels), ("frauds", held.frauds)):
                    limit = max(series.limit(rules.z), float(rules.burst_min))
                    if series.now > limit:
                        mean = series.total / series.hours
                        found[f"{what}:{source}"] = (
                            series.now,
                            f"{series.now:.0f} {what} of source {source} within an hour, "
                            f"usual {mean:.1f}, limit {limit:.0f}",
                        )
            if held.shift:
                found[f"share:{source}"] = (
                    held.shift,
                    f"share of frauds among labels of source {source} moved by {held.shift:.2f}",
                )
        return found

    def dumps(self) -> bytes:
        """Return all that it knows."""
        return msgspec.msgpack.encode(self._state)

    def loads(self, state: bytes) -> None:
        """Go on from a state."""
        self._state = msgspec.msgpack.decode(state, type=_State)

    def _end_hours(self, hour: int) -> None:
        state, rules = self._state, self._rules
        passed = hour - state.hour
        if state.hour < 0 or passed <= 0:
            state.hour = max(state.hour, hour)
            return
        fade = math.exp(-1 / rules.memory_hours)
        for held in state.sources.values():
            for series in (held.labels, held.frauds):
                known = held.known_hours >= rules.hours_min
                cap = max(series.limit(rules.z), float(rules.burst_min)) if known else math.inf
                series.end_hours(passed, fade, cap)
            held.known_hours += passed
        state.hour = hour

    def _count_share(self, held: _Source, count: int, fraud: int) -> None:
        rules = self._rules
        labels, frauds = held.block[0] + count, held.block[1] + fraud
        held.block = (labels, frauds)
        if labels < rules.share_rows:
            return
        share = frauds / labels
        usual = (held.usual[1] + 1) / (held.usual[0] + 2)
        error = math.sqrt(usual * (1 - usual) / labels)
        apart = abs(share - usual)
        known = held.known_hours >= rules.hours_min and held.usual[0] >= rules.share_rows
        held.shift = apart if known and apart > max(rules.z * error, rules.share_shift) else 0.0
        weight = 0.1 if held.shift else 1.0  # becomes usual slowly
        fade = 1 - 1 / 50  # about the last 50 blocks
        held.usual = (
            held.usual[0] * fade + weight * labels,
            held.usual[1] * fade + weight * frauds,
        )
        held.block = (0.0, 0.0)
