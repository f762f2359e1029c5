"""an act upon the policy → its end: done, or one readable line and exit code 2."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn

import typer

from features.spec import SpecError
from models.audit import BadAct, BadEntry
from models.policy import PolicyError
from models.policy_lists import ListsFull, ListsUnavailable
from models.policy_store import NoPolicy, PolicyConflict, PolicyStoreUnavailable
from riskbeat.decisions_kafka import LogSilent
from riskbeat.versions import CannotDo

EXIT_USER_ERROR = 2


class BadList(ValueError):
    """What was asked for, or a line of a file, is no entry of a list; names line and column."""


class BadLog(ValueError):
    """A line of a file of decisions is none."""


ENDINGS = (
    BadAct,
    BadEntry,
    BadList,
    BadLog,
    CannotDo,
    ListsFull,
    ListsUnavailable,
    LogSilent,
    NoPolicy,
    OSError,
    PolicyConflict,
    PolicyError,
    PolicyStoreUnavailable,
    SpecError,
)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Do it; a user's error is one readable line and exit code 2."""
    try:
        return asyncio.run(work)
    except ENDINGS as error:
        end(error)


def end(error: Exception) -> NoReturn:
    """Say what is wrong, and leave."""
    typer.echo(f"riskbeat: {error}", err=True)
    raise typer.Exit(EXIT_USER_ERROR)
