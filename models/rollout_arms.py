"""Event, Rollout → the arm that answers it: stable by entity, and growing with the share."""

from typing import Literal

import msgspec

from features.event import Event, identity_hash
from features.spec import Spec
from models.rollout import Rollout, Selector

Arm = Literal["stable", "candidate"]

_TWO_64 = 2.0**64


class ArmPicker:
    """Picks arms for one rollout; makes nothing, and remembers nothing.

    An entity's place in [0, 1) is a hash of the rollout's number, the tenant and the entity. It is
    the candidate's where its place lies below the share: so it stays there as the share grows, and
    other rollouts try other entities first.
    """

    def __init__(self, spec: Spec, rollout: Rollout) -> None:
        """Take the rollout at its present step."""
        self._primary = {name: kind.primary for name, kind in spec.event_rules.event_types.items()}
        self._selector: Selector = rollout.plan.selector
        self._number = rollout.number
        self._below = rollout.share * _TWO_64

    def arm_of(self, event: Event) -> Arm | None:
        """Return the arm of an event; None if it takes no part."""
        selector = self._selector
        if selector.tenants and event.tenant not in selector.tenants:
            return None
        for name, wanted in selector.attributes.items():
            if not _is(event.attributes.get(name), wanted):
                return None
        entity = event.entities.get(selector.entity or self._primary[event.event_type])
        if entity is None:
            return None
        place = place_of(self._number, event.tenant, entity)
        return "candidate" if place < self._below else "stable"


def place_of(number: int, tenant: str, entity: str) -> int:
    """Return an entity's place in a rollout: uniform over unsigned 64-bit integers."""
    return identity_hash(f"rollout {number}\x00{tenant}\x00{entity}")


def _is(value: object, wanted: str) -> bool:
    """Whether an attribute has a value as it is written in JSON, or as text."""
    if value is None or isinstance(value, str):
        return value == wanted
    return msgspec.json.encode(value).decode() == wanted
