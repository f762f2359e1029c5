"""Decisions leave as CloudEvents where a source is named, and can be read as before."""

from datetime import datetime
from pathlib import Path

import msgspec

from api.answer import Question
from api.claims import Claim, body_hash_of
from features.cloud_event import kafka_attributes
from features.event import decision_id, identity_of
from models.decision_cloud import Stamp
from models.decision_codec import decode_record
from tests.fakes_serving import a_stand, an_event

TRACE = (("traceparent", b"00-1"),)


async def test_a_decision_bears_the_headers_of_a_cloud_event(tmp_path: Path) -> None:
    stand = a_stand(tmp_path, stamp=Stamp("/eu/payments"))
    stand.load(1)
    await stand.publisher.try_log()
    event = an_event()
    claim = Claim(decision_id(identity_of(event)), body_hash_of(event))
    question = Question(event, msgspec.json.encode(event), claim, None, TRACE)
    [answer] = await stand.answerer.answer_many([question])
    assert isinstance(answer, bytes)
    [record] = stand.log.of("t.decisions.v1")
    decision = decode_record(record.value)
    found = kafka_attributes(record.headers)
    assert datetime.fromisoformat(found.pop("time")).timestamp() * 1000 == decision.decided_at_ms
    assert found == {
        "specversion": "1.0",
        "id": decision.decision_id,
        "source": "/eu/payments",
        "type": "riskbeat.decision.v1",
        "subject": event.event_id,
        "datacontenttype": "application/json",
    }
    assert record.headers[-1] == TRACE[0]
    [of_event] = stand.log.of("t.events.v1")
    assert kafka_attributes(of_event.headers) == {}
