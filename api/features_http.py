"""Questions about features over HTTP: one by its URL, many by a body."""

import msgspec

from api.errors import Answer, TenantRefused
from api.features import FeatureDesk
from api.questions import (
    FEATURES_BATCH_MAX_BYTES,
    read_explain,
    read_location,
    read_questions,
)
from api.route import JSON, Gate, Request, Route
from features.entity_features import FeatureQuestion

ONE_ROUTE = "/v1/features"
BATCH_ROUTE = "/v1/features:batch"

_encoder = msgspec.json.Encoder()


class FeatureRoutes:
    """The two routes.

    Attributes:
        one: `GET /v1/features/{entity}/{id}`; of a composite key one segment for each part.
        batch: `POST /v1/features:batch`.
    """

    def __init__(self, desk: FeatureDesk, gate: Gate) -> None:
        """Take the step behind them, and who weighs batches."""
        self._desk = desk
        self._gate = gate
        self.one = Route(ONE_ROUTE, self._answer_one, 0, "GET", b"/v1/features/")
        self.batch = Route(BATCH_ROUTE, self._answer_many, FEATURES_BATCH_MAX_BYTES)

    async def _answer_one(self, request: Request) -> Answer:
        asked = read_location(request.head.path, request.head.query)
        _check_tenant(request, asked.question.tenant, None)
        answer = await self._desk.answer_one(asked.question, asked.explain)
        return Answer(200, _encoder.encode(answer), JSON)

    async def _answer_many(self, request: Request) -> Answer:
        explain = read_explain(request.head.query)
        questions = read_questions(request.body)
        for index, question in enumerate(questions):
            if isinstance(question, FeatureQuestion):
                _check_tenant(request, question.tenant, index)
        self._gate.weigh(request.principal, request.head, len(questions))
        answers = await self._desk.answer_many(questions, explain)
        return Answer(200, _encoder.encode({"features": answers}), JSON)


def _check_tenant(request: Request, tenant: str, index: int | None) -> None:
    mine = request.principal.tenant
    if mine is not None and tenant != mine:
        raise TenantRefused(mine, index)
