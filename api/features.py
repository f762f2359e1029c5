"""questions → EntityFeatures, for those who ask over HTTP: bounded, out of the scorer's way."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from api.errors import FeaturesUnreadable, ManyRejected, Overloaded
from features.entity_features import EntityFeatures, FeatureQuestion, QuestionRejected
from features.read import Asked, check_question, read_features
from features.spec import Spec
from features.store import FeatureReader, SchemaMismatch, StoreUnavailable
from features.window import SchemaMismatch as StateMismatch
from features.window import StateCorrupt

READS_IN_FLIGHT_MAX = 16
REJECTED_SHOWN_MAX = 100


class Told(Protocol):
    """Who hears of what was read, for the metrics."""

    def features_read(self, answers: Sequence[EntityFeatures]) -> None:
        """Questions were answered."""


class FeatureDesk:
    """The step behind `/v1/features`."""

    def __init__(
        self,
        spec: Spec,
        store: FeatureReader,
        now_ms: Callable[[], int],
        told: Told,
        *,
        timeout_s: float,
        stale_after_s: float,
    ) -> None:
        """Take the port.

        Args:
            spec: What the states mean.
            store: States of entities.
            now_ms: Wall clock, milliseconds since 1970.
            told: Who hears of answers.
            timeout_s: Longest wait for the store.
            stale_after_s: A state that is older is called stale.
        """
        self._spec = spec
        self._store = store
        self._now_ms = now_ms
        self._told = told
        self._timeout_s = timeout_s
        self._stale_after_s = stale_after_s
        self._in_flight = 0

    async def answer_one(self, question: FeatureQuestion, explain: bool) -> EntityFeatures:
        """Answer one question.

        Raises:
            QuestionRejected: It cannot be answered.
            Overloaded: `READS_IN_FLIGHT_MAX` are being answered.
            StoreUnavailable: No answer in time.
            FeaturesUnreadable: What the store holds is of another spec, or damaged.
        """
        now_ms = self._now_ms()
        return (await self._read([check_question(self._spec, question, now_ms)], now_ms, explain))[
            0
        ]

    async def answer_many(
        self, questions: Sequence[FeatureQuestion | QuestionRejected], explain: bool
    ) -> list[EntityFeatures]:
        """Answer many questions in one round trip; all or none.

        Raises:
            ManyRejected: Some cannot be answered, or were unreadable; names all of them.
            Overloaded: As for one; so are the others.
        """
        now_ms = self._now_ms()
        asked: list[Asked] = []
        rejected: list[tuple[int, QuestionRejected]] = []
        for index, question in enumerate(questions):
            try:
                if isinstance(question, QuestionRejected):
                    raise question
                asked.append(check_question(self._spec, question, now_ms))
            except QuestionRejected as error:
                rejected.append((index, error))
        if rejected:
            raise ManyRejected(list(rejected[:REJECTED_SHOWN_MAX]))
        return await self._read(asked, now_ms, explain)

    async def _read(
        self, asked: Sequence[Asked], now_ms: int, explain: bool
    ) -> list[EntityFeatures]:
        if self._in_flight >= READS_IN_FLIGHT_MAX:
            raise Overloaded(f"{self._in_flight} questions about features are being answered")
        self._in_flight += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await read_features(
                    self._spec,
                    self._store,
                    asked,
                    now_ms,
                    stale_after_s=self._stale_after_s,
                    explain=explain,
                )
        except TimeoutError as error:
            raise StoreUnavailable("timeout", f"no answer within {self._timeout_s:g} s") from error
        except (SchemaMismatch, StateMismatch, StateCorrupt) as error:
            raise FeaturesUnreadable(str(error)) from error
        finally:
            self._in_flight -= 1
        self._told.features_read(answers)
        return answers
