"""A rebuild must never write where an older one wrote."""

from features.store import Pointer
from pipeline.rebuild_faust import next_epoch


def test_an_epoch_is_never_used_twice() -> None:
    topics = {"x.updates.v1", "x.updates.v1.e3", "y.updates.v1.e9", "x.updates.v1.e3b"}
    assert next_epoch("x.updates.v1", topics, None) == 4
    assert next_epoch("x.updates.v1", topics, Pointer(6, "", 8, "")) == 7
    assert next_epoch("x.updates.v1", set(), None) == 1
