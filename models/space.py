"""a feature spec → what learners need of it."""

from features.spec import Spec
from models.learner import Category, Space


def space_of(spec: Spec) -> Space:
    """Return the space of a spec's vectors."""
    column_of = {name: column for column, name in enumerate(spec.feature_names)}
    categories = tuple(
        Category(term.name, column_of[term.name], term.size)
        for term in spec.event_terms
        if term.kind == "category"
    )
    calendar = tuple(column_of[term.name] for term in spec.event_terms if term.kind == "calendar")
    return Space(spec.digest, tuple(spec.feature_names), categories, calendar)
