"""Which learners learn what: lanes, challengers, and what they may keep."""

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from models.memory import KEEP_FRAUDS
from models.plan import (
    LANE_FRAUDS_MIN,
    STEP_ROWS,
    Challenger,
    Member,
    Plan,
    challenger_of,
    member_of,
)
from pipeline.truth import FEEDBACK_SOURCES

DAY_S = 86_400.0
GIB = 1024**3

Told = dict[str, float | int | str]
"""A learner as JSON: its entry point under `learner`, and its options beside it."""


class LearnersSettings(BaseSettings):
    """Who learns from which truth."""

    feedback_sources: tuple[str, ...] = Field(
        FEEDBACK_SOURCES,
        description="JSON list of label sources that the feedback lane learns as they come; all "
        "others come late, and teach the delayed lane",
    )
    learners: dict[str, dict[str, Told]] = Field(
        {
            "feedback": {"network": {"learner": "network"}},
            "delayed": {"network": {"learner": "network"}, "boosted": {"learner": "boosted"}},
        },
        description="JSON: lane → name → `learner` (an entry point) and its options; lanes are "
        "`feedback` and `delayed`",
    )
    challengers: dict[str, Told] = Field(
        {},
        description="JSON: name → `lane`, `learner` and its options: learns and is judged, and "
        "never answers",
    )
    lane_frauds_min: int = Field(
        LANE_FRAUDS_MIN,
        ge=1,
        description="A lane answers when it has learned so many frauds, and so many legit events",
    )
    learn_batch_rows: int = Field(
        STEP_ROWS, ge=1, le=8192, description="New rows of one learning step"
    )
    learn_seed: int = Field(1, ge=0, description="Seeds the first weights and every draw")
    reservoir_rows: int = Field(
        200_000, ge=1, description="Earlier rows that each lane keeps for learning again"
    )
    reservoir_frauds: int = Field(
        KEEP_FRAUDS, ge=1, description="Earlier frauds that each lane keeps beside them"
    )
    join_max_bytes: int = Field(
        16 * GIB,
        ge=1024 * 1024,
        description="Of the join store without the learner's checkpoint; the oldest events leave",
    )
    probe_renew_s: float = Field(
        DAY_S,
        gt=0,
        description="Event time for which versions are compared on the same probe of vectors",
    )

    @field_validator("learners")
    @classmethod
    def _who_answers(cls, told: dict[str, dict[str, Told]]) -> dict[str, dict[str, Told]]:
        """Refuse what is no plan; entry points and options are the learner's to refuse."""
        Plan(lanes=_lanes(told))
        return told

    @field_validator("challengers")
    @classmethod
    def _who_competes(cls, told: dict[str, Told]) -> dict[str, Told]:
        """Likewise."""
        _challengers(told)
        return told

    def plan(self, model: str) -> Plan:
        """Return who learns, for the model family of this name."""
        return Plan(
            lanes=_lanes(self.learners),
            challengers=_challengers(self.challengers),
            model=model,
            step_rows=self.learn_batch_rows,
            keep_rows=self.reservoir_rows,
            keep_frauds=self.reservoir_frauds,
            lane_frauds_min=self.lane_frauds_min,
            probe_renew_ms=round(self.probe_renew_s * 1000),
        )


def _lanes(told: dict[str, dict[str, Told]]) -> dict[str, dict[str, Member]]:
    return {
        lane: {name: member_of(f"{lane}.{name}", one) for name, one in members.items()}
        for lane, members in told.items()
    }


def _challengers(told: dict[str, Told]) -> dict[str, Challenger]:
    return {name: challenger_of(name, one) for name, one in told.items()}
