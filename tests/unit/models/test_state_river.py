"""River's objects through bytes and back: they go on alike; what is not vouched for is refused."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import xxhash
from river.drift import ADWIN, KSWIN
from river.forest import ARFClassifier
from river.linear_model import LogisticRegression
from river.optim import SGD, AdaGrad, Adam
from river.tree import HoeffdingTreeClassifier

from models.learner import StateMismatch
from models.splitter_river import LeanSplitter
from models.state_river import decode_state, encode_state

MAKERS: dict[str, Callable[[], Any]] = {
    "adwin": ADWIN,
    "sgd": lambda: LogisticRegression(SGD(0.1)),
    "adagrad": lambda: LogisticRegression(AdaGrad(0.1), l2=0.01),
    "adam": lambda: LogisticRegression(Adam(0.1)),
    "tree": lambda: HoeffdingTreeClassifier(
        grace_period=30, leaf_prediction="mc", splitter=LeanSplitter()
    ),
    "forest": lambda: ARFClassifier(
        n_models=3, leaf_prediction="mc", splitter=LeanSplitter(), seed=1, grace_period=20
    ),
}


def feed(thing: Any, seed: int, count: int = 400) -> None:
    draws = random.Random(seed)
    for _ in range(count):
        x = {column: draws.gauss(0, 1) for column in range(4)}
        y = int(x[seed % 4] > 0.5)  # what matters moves, so that drift is found
        if isinstance(thing, ADWIN):
            thing.update(x[0] + seed)
        else:
            thing.learn_one(x, y)


def resealed(body: bytes) -> bytes:
    return xxhash.xxh3_128_digest(body) + body


def taught(name: str) -> Any:
    made = MAKERS[name]()
    for seed in range(4):
        feed(made, seed)
    return made


@pytest.fixture(params=MAKERS)
def thing(request: pytest.FixtureRequest) -> Any:
    return taught(request.param)


def test_it_goes_on_as_if_never_stopped(thing: Any) -> None:
    data = encode_state(thing)
    other = decode_state(data, type(thing))
    assert encode_state(other) == data
    for one in (thing, other):
        feed(one, 5)
    assert encode_state(other) == encode_state(thing)
    if not isinstance(thing, ADWIN):
        x = {column: 0.3 for column in range(4)}
        assert other.predict_proba_one(x) == thing.predict_proba_one(x)


def test_what_was_shared_is_shared_again() -> None:
    other = decode_state(encode_state(taught("forest")), ARFClassifier)
    assert all(tree.rng is other._rng for tree in other.data)


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_calls_give_the_same_bytes(name: str) -> None:
    """Nothing that the operating system drew, no address and no order of a hash is in them."""
    assert encode_state(taught(name)) == encode_state(taught(name))


def test_a_class_that_is_not_listed_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="KSWIN is not among"):
        encode_state(KSWIN(seed=1))


@pytest.mark.parametrize(
    "record",
    [
        ["os.system", ["true"], None],
        ["builtins.eval", ["1"], None],
        ["subprocess.Popen", [["t", "true"]], None],
        ["defaultdict", ["eval"], []],
    ],
    ids=str,
)
def test_a_class_that_is_not_listed_cannot_be_read(record: list[Any]) -> None:
    """The bytes are whole and in order, and yet nothing in them is looked up or called."""
    document = msgspec.msgpack.decode(encode_state(ADWIN())[16:])
    document[2] = [record]
    document[3] = ["r", 0]
    with pytest.raises(StateMismatch, match="does not fit"):
        decode_state(resealed(msgspec.msgpack.encode(document)), ADWIN)


def test_another_rivers_state_is_refused() -> None:
    document = msgspec.msgpack.decode(encode_state(ADWIN())[16:])
    document[1] = "0.1.0"
    with pytest.raises(StateMismatch, match=r"written by River 0\.1\.0"):
        decode_state(resealed(msgspec.msgpack.encode(document)), ADWIN)


def test_damaged_bytes_are_refused(thing: Any) -> None:
    data = bytearray(encode_state(thing))
    data[len(data) // 2] ^= 1
    with pytest.raises(StateMismatch, match="damaged"):
        decode_state(bytes(data), type(thing))


@pytest.mark.parametrize("body", [b"", b"\x91", b"\x00" * 40], ids=["empty", "short", "other"])
def test_bytes_of_another_shape_are_refused(body: bytes) -> None:
    with pytest.raises(StateMismatch, match="cannot be read"):
        decode_state(resealed(body), ADWIN)


def test_another_objects_state_is_refused() -> None:
    with pytest.raises(StateMismatch, match="of a ADWIN, not a ARFClassifier"):
        decode_state(encode_state(ADWIN()), ARFClassifier)
