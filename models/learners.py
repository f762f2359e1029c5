"""a learner's name → what makes it: learners are found by entry points, ours like a user's.

A package adds one by declaring, in its pyproject.toml:

    [project.entry-points."riskbeat.learners"]
    mine = "my_package.my_module:make"

where `make` is a `models.learner.Factory`.
"""

from importlib.metadata import EntryPoint, entry_points

from models.learner import ENTRY_POINTS, Context, Factory, Learner


class UnknownLearner(ValueError):
    """No installed package offers a learner of this name, or several do, or it does not load."""


def installed() -> dict[str, str]:
    """Return the names of all learners that are installed, each with where it comes from."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


def load(name: str) -> Factory:
    """Return what makes learners of this name.

    Raises:
        UnknownLearner: See there; the message names what is installed.
    """
    points = list(entry_points(group=ENTRY_POINTS, name=name))
    if not points:
        there = ", ".join(sorted(installed())) or "none: is riskbeat installed as a package?"
        raise UnknownLearner(f"there is no learner {name!r}; installed are {there}")
    values = sorted({point.value for point in points})
    if len(values) > 1:
        raise UnknownLearner(f"learner {name!r} is offered more than once: {', '.join(values)}")
    return _loaded(points[0])


def make(name: str, context: Context) -> Learner:
    """Make a learner by name.

    Raises:
        UnknownLearner: As `load`.
        ValueError: An option is unknown or out of range; names it and what is there.
    """
    return load(name)(context)


def _loaded(point: EntryPoint) -> Factory:
    try:
        found = point.load()
    except (ImportError, AttributeError) as fault:
        told = f"learner {point.name!r} ({point.value}) does not load: {fault}"
        raise UnknownLearner(told) from fault
    if not callable(found):
        raise UnknownLearner(f"learner {point.name!r} ({point.value}) cannot be called")
    factory: Factory = found
    return factory
