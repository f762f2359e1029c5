"""a past decision → lists and switches as it met them, so that a ruler rules as it did then."""

from features.event import Event
from models.decision import DecisionRecord, Reason
from models.policy_list_copy import ListCopy
from models.policy_lists import LISTS, ListEntry
from models.policy_ruling import Ruler
from models.policy_store import Switch

THEN = "recorded"


def as_then(ruler: Ruler, record: DecisionRecord) -> None:
    """Give a ruler the entries that a decision met, and the rules that were halted for it.

    A rule that an operator had snoozed leaves no trace in a decision, and rules again here.
    """
    copy = ListCopy()
    copy.load([_entry_of(one, record.event) for one in record.reasons if one.source == "list"])
    copy.settle()
    ruler.lists = copy
    ruler.switch(
        {
            hit.id: Switch(
                rule=hit.id, kind="halted", version=hit.version, by=THEN, why=THEN, at_ms=0
            )
            for hit in record.rules
            if hit.state == "halted"
        }
    )


def _entry_of(reason: Reason, event: Event) -> ListEntry:
    entity = reason.feature.removeprefix("entities.")
    [name] = [name for name in LISTS if reason.code == f"{name}_list"]
    return ListEntry(list=name, entity=entity, id=event.entities[entity], reason=reason.text or "")
