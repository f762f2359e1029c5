"""What callers noticed of a rolling restart, the delays of the asker itself left out."""

from load_tests.chaos.load import Heard, Told
from load_tests.rolling import PROMISED_S, rows_of

STEADY, ROLLED = (0.0, 10.0), [(20.0, 30.0), (40.0, 50.0)]
FAST_S, SLOW_S = PROMISED_S / 2, PROMISED_S * 2


def told(*answers: tuple[float, float]) -> Told:
    return Told(
        answers={str(i): Heard(at_s, took_s, {}) for i, (at_s, took_s) in enumerate(answers)}
    )


def figures(found: Told) -> dict[str, float | None]:
    return {row.what: row.value for row in rows_of(found, STEADY, ROLLED)}


def test_answers_count_where_they_were_asked_for() -> None:
    found = figures(
        told(
            (1, FAST_S),
            (2, FAST_S),
            (15, SLOW_S),
            (21, SLOW_S),
            (22, FAST_S),
            (41, FAST_S),
            (42, FAST_S),
        )
    )
    assert found["rolling: answers over 100 ms, left alone"] == 0
    assert found["rolling: answers over 100 ms"] == 1 / 4
    assert found["rolling: requests that failed"] == 0


def test_what_the_asker_was_late_itself_is_not_counted() -> None:
    mine = told((1, FAST_S), (21, SLOW_S))
    mine.own_delays.append((21.0, SLOW_S))
    assert figures(mine)["rolling: answers over 100 ms"] == 0


def test_a_lost_connection_and_a_lost_answer_fail() -> None:
    mine = told((1, FAST_S), (21, FAST_S))
    mine.faults.append((22.0, "ServerDisconnectedError"))
    mine.lost.append("x")
    rows = rows_of(mine, STEADY, ROLLED)
    assert rows[0].value == 2
    assert not rows[0].holds()


def test_more_slow_answers_than_before_break_the_promise() -> None:
    [row] = [
        row
        for row in rows_of(told((1, FAST_S), (21, SLOW_S)), STEADY, ROLLED)
        if row.what == "rolling: answers over 100 ms"
    ]
    assert not row.holds()
