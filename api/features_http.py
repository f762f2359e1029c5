"""Questions about features over HTTP: one by its URL, many by a body."""

import msgspec

from api.errors import Answer
from api.features import FeatureDesk
from api.questions import (
    FEATURES_BATCH_MAX_BYTES,
    read_explain,
    read_location,
    read_questions,
)
from api.route import JSON, Request, Route

ONE_ROUTE = "/v1/features"
BATCH_ROUTE = "/v1/features:batch"

_encoder = msgspec.json.Encoder()


class FeatureRoutes:
    """The two routes.

    Attributes:
        one: `GET /v1/features/{entity}/{id}`; of a composite key one segment for each part.
        batch: `POST /v1/features:batch`.
    """

    def __init__(self, desk: FeatureDesk) -> None:
        """Take the step behind them."""
        self._desk = desk
        self.one = Route(ONE_ROUTE, self._answer_one, 0, "GET", b"/v1/features/")
        self.batch = Route(BATCH_ROUTE, self._answer_many, FEATURES_BATCH_MAX_BYTES)

    async def _answer_one(self, request: Request) -> Answer:
        asked = read_location(request.head.path, request.head.query)
        answer = await self._desk.answer_one(asked.question, asked.explain)
        return Answer(200, _encoder.encode(answer), JSON)

    async def _answer_many(self, request: Request) -> Answer:
        explain = read_explain(request.head.query)
        answers = await self._desk.answer_many(read_questions(request.body), explain)
        return Answer(200, _encoder.encode({"features": answers}), JSON)
