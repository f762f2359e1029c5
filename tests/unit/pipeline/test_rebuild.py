"""A rebuild must never write where an older one wrote."""

from pipeline.rebuild_faust import lowest_epoch


def test_an_epoch_lies_beyond_every_updates_topic_that_the_broker_has() -> None:
    topics = {"x.updates.v1", "x.updates.v1.e3", "y.updates.v1.e9", "x.updates.v1.e3b"}
    assert lowest_epoch("x.updates.v1", topics) == 4
    assert lowest_epoch("x.updates.v1", set()) == 1
