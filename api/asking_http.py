"""Decisions that are only asked for over HTTP: what would be, and what was."""

from urllib.parse import unquote

from api.dry_run import DryRuns
from api.errors import Answer
from api.intake import Intake
from api.lookup import LookupDesk
from api.route import JSON, Request, Route
from api.taking_http import caller_of
from features.event import EVENT_MAX_BYTES

LOOKUP_UNDER = b"/v1/decisions/"


class AskingRoutes:
    """The two routes.

    Attributes:
        dry_run: `POST /v1/decisions:dry-run`.
        lookup: `GET /v1/decisions/{id}`.
    """

    def __init__(self, intake: Intake, dry_runs: DryRuns, lookups: LookupDesk) -> None:
        """Take the steps behind them."""
        self._intake = intake
        self._dry_runs = dry_runs
        self._lookups = lookups
        self.dry_run = Route("/v1/decisions:dry-run", self._try, EVENT_MAX_BYTES)
        self.lookup = Route("/v1/decisions/{id}", self._find, 0, "GET", LOOKUP_UNDER)

    async def _try(self, request: Request) -> Answer:
        question = self._intake.question(request.body, None, caller_of(request))
        return Answer(200, await self._dry_runs.answer(question.event, request.deadline_at), JSON)

    async def _find(self, request: Request) -> Answer:
        name = unquote(request.head.path[len(LOOKUP_UNDER) :].decode("latin-1"))
        return Answer(200, await self._lookups.find(name, request.principal.tenant), JSON)
