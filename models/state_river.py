"""a River object ↔ bytes: its state for a checkpoint, by a list of classes and without pickle.

What can be read back is plain values, containers, and objects of the classes in `KINDS`; an object
is made empty and then given its fields. No name in the bytes is imported and no function in them is
called (ADR 0014). The header names River's version, since fields of its classes are its own matter.

Layout: 16 bytes xxh3-128 of the rest, then msgpack of `_Document`. A record is one container or
object; values name records by number, so that what was shared is shared again.
"""

import copyreg
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, NamedTuple, TypeVar

import msgspec
import xxhash
from river.__version__ import __version__ as RIVER_VERSION
from river._river_rust.drift import AdaptiveWindowing
from river._river_rust.vectordict import VectorDict
from river.drift import ADWIN
from river.drift.no_drift import NoDrift
from river.forest.adaptive_random_forest import ARFClassifier, BaseTreeClassifier
from river.linear_model import LogisticRegression
from river.metrics import Accuracy
from river.metrics.confusion import ConfusionMatrix
from river.optim import SGD, AdaGrad, Adam
from river.optim.initializers import Zeros
from river.optim.losses import Log
from river.optim.schedulers import Constant
from river.proba import Gaussian
from river.stats import Mean, Var
from river.tree import HoeffdingTreeClassifier
from river.tree.nodes.arf_htc_nodes import RandomLeafMajorityClass
from river.tree.nodes.branch import NumericBinaryBranch
from river.tree.nodes.htc_nodes import LeafMajorityClass

from models.learner import StateMismatch
from models.splitter_river import LeanSplitter

FORMAT = 1
CHECKSUM_BYTES = 16
DEPTH_MAX = 400
"""Containers within containers; a tree takes four for each of its levels."""

_FIELDS = (  # made empty, then given their fields
    ADWIN, NoDrift, ARFClassifier, BaseTreeClassifier, LogisticRegression, Accuracy,
    ConfusionMatrix, SGD, AdaGrad, Adam, Zeros, Log, Constant, Gaussian, Mean, Var,
    HoeffdingTreeClassifier, RandomLeafMajorityClass, NumericBinaryBranch, LeafMajorityClass,
    LeanSplitter,
)  # fmt: skip
_OPAQUE = (AdaptiveWindowing,)  # made of plain values, then given the bytes of their own state
_VALUES = (VectorDict,)  # made of plain values


def name_of(kind: type) -> str:
    """Return how a class is named in the bytes."""
    return f"{kind.__module__}.{kind.__qualname__}"


KINDS: dict[str, type] = {name_of(kind): kind for kind in (*_FIELDS, *_OPAQUE, *_VALUES)}
"""Classes that can be read back, by module and name. To add one is to vouch for its fields."""
FACTORIES: dict[str, Callable[[], Any]] = {
    "int": int,
    "float": float,
    "floats": partial(defaultdict, float),  # the rows of a confusion matrix
}

_T = TypeVar("_T")


class _Record(NamedTuple):
    kind: str
    made_of: list[Any]
    state: Any


class _Document(msgspec.Struct, array_like=True):
    format: int
    river: str
    records: list[_Record]
    root: Any


def encode_state(thing: object) -> bytes:
    """Return a River object as bytes; what it refers to goes along.

    Raises:
        TypeError: It holds something that is not in `KINDS`, which could not be read back.
    """
    writer = _Writer()
    root = writer.value(thing)
    body = msgspec.msgpack.encode(_Document(FORMAT, RIVER_VERSION, writer.records, root))
    return xxhash.xxh3_128_digest(body) + body


def decode_state(data: bytes, kind: type[_T]) -> _T:
    """Return the object that `encode_state` was given.

    Raises:
        StateMismatch: The bytes are damaged, of another River, of another class, or hold what is
            not in `KINDS`.
    """
    body = data[CHECKSUM_BYTES:]
    if xxhash.xxh3_128_digest(body) != data[:CHECKSUM_BYTES]:
        raise StateMismatch(f"the state of a {kind.__name__} is damaged: its checksum differs")
    try:
        document = msgspec.msgpack.decode(body, type=_Document)
    except msgspec.DecodeError as fault:
        raise StateMismatch(f"the state of a {kind.__name__} cannot be read: {fault}") from fault
    if (document.format, document.river) != (FORMAT, RIVER_VERSION):
        raise StateMismatch(
            f"the state of a {kind.__name__} was written by River {document.river} (format "
            f"{document.format}); in use is River {RIVER_VERSION} (format {FORMAT})"
        )
    try:
        found = _Reader(document.records).value(document.root)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as fault:
        raise StateMismatch(f"the state of a {kind.__name__} does not fit: {fault}") from fault
    if type(found) is not kind:
        raise StateMismatch(f"the state is of a {type(found).__name__}, not a {kind.__name__}")
    return found


def _factory_name(mapping: "defaultdict[Any, Any]") -> str:
    made = mapping.default_factory
    for name, factory in FACTORIES.items():
        if _parts_of(made) == _parts_of(factory):
            return name
    raise TypeError(f"a defaultdict of {made} could not be read back")


def _parts_of(made: Any) -> tuple[Any, ...]:
    return (made.func, *made.args) if isinstance(made, partial) else (made,)


class _Writer:
    """Values → records. Scalars stand for themselves, a tuple is ["t", …], a record ["r", n]."""

    def __init__(self) -> None:
        self.records: list[_Record] = []
        self._numbers: dict[int, int] = {}
        self._held: list[object] = []  # an id may not be given again while we write

    def value(self, thing: Any, depth: int = 0) -> Any:
        if thing is None or type(thing) in {bool, int, float, str, bytes}:
            return thing
        if type(thing) is tuple:
            return ["t", *(self.value(part, depth + 1) for part in thing)]
        if depth > DEPTH_MAX:
            raise TypeError(f"more than {DEPTH_MAX} containers within each other")
        number = self._numbers.get(id(thing))
        if number is None:
            number = len(self.records)
            self._numbers[id(thing)] = number
            self._held.append(thing)
            self.records.append(_Record("", [], None))  # taken, so that a cycle ends
            self.records[number] = self._record(thing, depth + 1)
        return ["r", number]

    def _record(self, thing: Any, depth: int) -> _Record:
        if type(thing) is list:
            return _Record("list", [], [self.value(part, depth) for part in thing])
        if type(thing) is set:
            return _Record("set", [], [self.value(part, depth) for part in sorted(thing)])
        if type(thing) in {dict, Counter, defaultdict}:
            flat = [self.value(part, depth) for pair in thing.items() for part in pair]
            made_of = [_factory_name(thing)] if type(thing) is defaultdict else []
            return _Record(type(thing).__name__, made_of, flat)
        if type(thing) is Random:
            return _Record("Random", [], self.value(thing.getstate(), depth))
        name = name_of(type(thing))
        if KINDS.get(name) is not type(thing):
            raise TypeError(f"{name} is not among the classes that can be read back")
        reduced: Any = thing.__reduce_ex__(4)
        maker, made_of, *rest = reduced
        if maker is copyreg.__newobj__:  # type: ignore[attr-defined]  # typeshed hides it
            made_of = made_of[1:]
        state = rest[0] if rest else None
        self._held += [made_of, state]
        return _Record(name, [self.value(x, depth) for x in made_of], self.value(state, depth))


class _Reader:
    """Records → values, each record once."""

    def __init__(self, records: list[_Record]) -> None:
        self._records = records
        self._made: dict[int, Any] = {}

    def value(self, found: Any) -> Any:
        if not isinstance(found, list):
            return found
        if found[0] == "t":
            return tuple(self.value(part) for part in found[1:])
        number = found[1]
        if number not in self._made:
            self._make(number, self._records[number])
        return self._made[number]

    def _make(self, number: int, record: _Record) -> None:
        if record.kind in {"list", "set", "dict", "Counter", "defaultdict", "Random"}:
            self._make_container(number, record)
            return
        kind: Any = KINDS.get(record.kind)
        if kind is None:
            raise TypeError(f"{record.kind} is not among the classes that can be read back")
        made_of = [self.value(part) for part in record.made_of]
        thing: Any
        if kind in _VALUES:
            thing = kind(*made_of)
        elif kind in _OPAQUE:
            thing = kind.__new__(kind, *made_of)
            thing.__setstate__(record.state)
        else:
            thing = kind.__new__(kind)
        self._made[number] = thing
        if kind in _FIELDS:
            self._give_fields(thing, self.value(record.state))

    @staticmethod
    def _give_fields(thing: Any, fields: Any) -> None:
        own_state = getattr(type(thing), "__setstate__", None)
        if own_state is not None:  # a class of River's that is not written in Python
            thing.__setstate__(fields)
        else:
            vars(thing).update(fields)

    def _make_container(self, number: int, record: _Record) -> None:
        thing: Any
        if record.kind == "Random":
            thing = self._made[number] = Random(0)
            thing.setstate(self.value(record.state))
        elif record.kind == "list":
            thing = self._made[number] = []
            thing.extend(self.value(part) for part in record.state)
        elif record.kind == "set":
            self._made[number] = {self.value(part) for part in record.state}
        else:
            empty = {"dict": dict, "Counter": Counter}.get(record.kind)
            thing = empty() if empty else defaultdict(FACTORIES[record.made_of[0]])
            self._made[number] = thing
            for at in range(0, len(record.state), 2):
                thing[self.value(record.state[at])] = self.value(record.state[at + 1])
