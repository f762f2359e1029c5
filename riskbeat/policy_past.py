"""a file or the decisions topic → past decisions, and what a policy would have made of them."""

from collections.abc import AsyncIterator
from pathlib import Path

from features.event import EventRejected
from features.spec import Spec
from models.decision import DecisionRecord
from models.decision_codec import decode_record
from models.policy_backtest import Backtest, Outlook
from models.policy_ruling import Rulebook
from riskbeat.decisions_kafka import newest_decisions
from riskbeat.policy_acts import copy_of_lists, open_stores
from riskbeat.policy_ending import BadLog
from riskbeat.settings import Settings

TOPIC = "topic"
BATCH = 500


async def look_back(
    settings: Settings, spec: Spec, book: Rulebook, source: str, last: int
) -> Outlook:
    """Return what a policy would have made of the newest decisions.

    Args:
        settings: Of the deployment, for the topic and the lists.
        spec: That the policy was compiled for.
        book: The policy.
        source: `topic`, or a file with one record of the topic in each line.
        last: At most so many decisions of the topic; a file is read whole.

    Raises:
        BadLog: A line of the file is no decision; names it.
        OSError: The file cannot be read.
    """
    async with open_stores(settings) as stores:
        test = Backtest(spec, book, await copy_of_lists(stores))
    batches = (
        newest_decisions(settings.kafka_options(), settings.topics.decisions, last)
        if source == TOPIC
        else _of_file(Path(source))
    )
    async for records in batches:
        test.add(records)
    return test.outlook


async def _of_file(path: Path) -> AsyncIterator[list[DecisionRecord]]:
    records: list[DecisionRecord] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                records.append(decode_record(line))
            except EventRejected as error:
                raise BadLog(f"{path}:{number}: {error}") from error
            if len(records) == BATCH:
                yield records
                records = []
    yield records
