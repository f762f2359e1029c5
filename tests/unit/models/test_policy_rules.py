"""Rules say when they hit in CEL; what they name is checked when they are loaded."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.event import Event
from models import policy_rules
from models.policy import PolicyError
from models.policy_cel import CelCompiler
from models.policy_check import is_strict
from models.policy_expressions import Undetermined
from models.policy_names import stripped
from models.policy_ruling import Rulebook
from tests.builders_policy import RULES_AT, a_book, a_payment, small_spec

COUNT, SUM, SINCE = "card.count_over_10m", "card.sum_of_amount_over_1h", "card.since_last"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return small_spec(tmp_path_factory.mktemp("spec"))


def book_of(spec: Any, *whens: str, more: str = "") -> Rulebook:
    rules = [f"id: r{i}, outcome: review, when: '{when}'" for i, when in enumerate(whens)]
    return a_book(spec, *rules, more=more)


def hits(spec: Any, book: Rulebook, event: Event | None = None, **values: float) -> list[str]:
    """The rules that an event meets, as `r0` or `r0: error`."""
    x = np.full((1, spec.n_features), np.nan, np.float32)
    for name, value in values.items():
        x[0, spec.feature_names.index(name.replace("__", "."))] = value
    [row] = book.rules.rows_of(x)
    found = book.rules.verdicts(event or a_payment(), row, 0.25, 0.5)
    return [
        f"r{verdict.place}" + (": error" if verdict.state == "error" else "") for verdict in found
    ]


def test_a_rule_reads_features_the_event_and_the_score(spec: Any) -> None:
    book = book_of(
        spec,
        f"{COUNT} > 3.0",
        'amount.value >= 1000 && amount.currency == "EUR" && amount.base < 1001',
        'entities.card == "c1" && event_type == "card_payment" && tenant == "default"',
        "score.probability > 0.2 && score.percentile < 0.6",
        'event_time.getFullYear() == 2025 || event_time > timestamp("2020-01-01T00:00:00Z")',
        'entities.merchant.startsWith("x")',
    )
    assert hits(spec, book, card__count_over_10m=4) == ["r0", "r1", "r2", "r3", "r4"]
    assert hits(spec, book, card__count_over_10m=3) == ["r1", "r2", "r3", "r4"]


def test_an_attribute_is_of_the_kind_that_was_declared_or_missing(spec: Any) -> None:
    more = "attributes: {country: string, velocity: number, vip: bool}\n"
    book = book_of(
        spec,
        'attributes.country == "FR"',
        "attributes.velocity > 2.0",
        "attributes.vip",
        "!known.attributes.country",
        more=more,
    )

    def with_attributes(**attributes: Any) -> list[str]:
        return hits(spec, book, msgspec.structs.replace(a_payment(), attributes=attributes))

    assert with_attributes(country="FR", velocity=3, vip=True) == ["r0", "r1", "r2"]
    assert with_attributes(country=1, velocity="3", vip="yes") == ["r3"]
    assert with_attributes(country="DE", velocity=True, vip=0) == []
    assert with_attributes(velocity=10**400) == ["r3"]


@pytest.mark.parametrize(
    ("when", "hit"),
    [
        (f"{SINCE} > 5.0", False),
        (f"!({SINCE} > 5.0)", False),
        (f"{SINCE} != 5.0", False),
        (f"{SINCE} > 5.0 || amount.value == 1000", True),
        (f"amount.value == 1000 || {SINCE} > 5.0", True),
        (f"!({SINCE} > 5.0 && amount.value == 1)", True),
        (f"!(amount.value == 1 && {SINCE} > 5.0)", True),
        (f"({SINCE} > 5.0 && amount.value == 1) == (amount.value == 2)", True),
        (f"known.{SINCE} ? {SINCE} > 5.0 : amount.value == 1000", True),
        (f"!known.{SINCE} && amount.value == 1000", True),
        (f"known.{SINCE} && {SINCE} > 5.0", False),
    ],
)
def test_what_reads_a_missing_value_is_neither_true_nor_false(
    spec: Any, when: str, hit: bool
) -> None:
    assert hits(spec, book_of(spec, when)) == (["r0"] if hit else [])


def test_without_features_only_rules_on_the_event_can_hit(spec: Any) -> None:
    book = book_of(spec, f"{COUNT} > 0.0", "amount.value == 1000", "score.probability < 1.0")
    found = book.rules.verdicts(a_payment(), None, None, None)
    assert [verdict.place for verdict in found] == [1]


def test_a_rule_that_fails_says_so_and_the_others_are_not_disturbed(spec: Any) -> None:
    book = book_of(
        spec,
        "10 / (amount.value - 1000) > 0",
        "amount.value == 1000",
        "9223372036854775807 + amount.value > 0",
        "amount.value > 1000",
    )
    assert hits(spec, book) == ["r0: error", "r1", "r2: error"]
    found = book.rules.verdicts(a_payment(), None, None, None)
    assert found[0].detail == "divide by zero"


def test_rules_look_at_their_event_types_and_tenants_alone(spec: Any) -> None:
    book = a_book(
        spec,
        'id: a, outcome: review, when: "true", tenants: [north]',
        'id: b, outcome: review, when: "true", event_types: [card_payment]',
        'id: c, outcome: review, when: "true", enabled: false',
    )
    north = msgspec.structs.replace(a_payment(), tenant="north")
    assert hits(spec, book, north) == ["r0", "r1"]
    assert hits(spec, book) == ["r1"]


def test_a_policy_without_rules_looks_at_nothing(spec: Any) -> None:
    book = a_book(spec)
    assert not book.rules.looks
    assert book.rules.verdicts(a_payment(), None, None, None) == []


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            f'id: r, outcome: review, when: "{COUNT}_of > 1.0"',
            "when: unknown name card.count_over_10m_of; did you mean card.count_over_10m?",
        ),
        ('id: r, outcome: review, when: "card > 1.0"', "when: unknown name card"),
        (
            'id: r, outcome: review, when: "attributes.bin == 1"',
            "when: unknown name attributes.bin: declare it under `attributes`",
        ),
        (f'id: r, outcome: review, when: "{COUNT} > 5"', ": found no matching"),
        ('id: r, outcome: review, when: "amount.value"', "when: expected true or false, this is"),
        ('id: r, outcome: review, when: "amount.value >"', ": Syntax error"),
        ('id: r, outcome: review, when: "nosuch(1)"', ": undeclared reference"),
        ('id: r, outcome: review, when: "[1].all(x, x > 0)"', "when: `all` loops"),
        ('id: r, outcome: review, when: "has(card.since_last)"', "when: `has(…)`: write `known"),
        (
            f'id: r, outcome: review, when: "{"(" * 60}true{")" * 60}"',
            "when: Expression recursion limit",
        ),
        ('id: r, outcome: review, when: "true", event_types: [login]', "event_types: `login`: exp"),
        ('id: r, when: "true"', "[0]: expected `outcome` or `score_at_least`"),
        ('id: r, when: "true", score_at_least: {}', "score_at_least: expected `probability`"),
        ('id: r, when: "true", outcome: review, limit: {}', "limit: expected `share`, `per_minute"),
        ('id: R, when: "true", outcome: review', "id: Expected `str` matching regex"),
        (f'id: r, when: "{"x" * 2001}", outcome: review', "when: Expected `str` of length <="),
    ],
)
def test_a_faulty_rule_is_refused_by_line_and_field(spec: Any, rule: str, message: str) -> None:
    with pytest.raises(PolicyError) as refused:
        a_book(spec, rule)
    assert str(refused.value).startswith(f"p.yaml:{RULES_AT}: rules[0]"), str(refused.value)
    assert message in str(refused.value)


def test_a_disabled_rule_is_checked_too_and_two_of_one_name_are_refused(spec: Any) -> None:
    off = 'id: r, outcome: review, when: "nosuch", enabled: false'
    with pytest.raises(PolicyError, match="unknown name nosuch"):
        a_book(spec, off)
    twice = 'id: r, outcome: review, when: "true"'
    with pytest.raises(
        PolicyError, match=rf"p.yaml:{RULES_AT + 1}: rules\[1\].id: `r` stands here twice"
    ):
        a_book(spec, twice, twice)


def test_what_stands_in_quotes_or_comments_is_no_name(spec: Any) -> None:
    when = r"""entities.card == "a.b || c" && entities.card != r'x\' // d.e"""
    assert "||" not in stripped(when) and "d.e" not in stripped(when)
    assert len(stripped(when)) == len(when)
    assert is_strict(when)


def test_a_rule_too_deep_to_go_with_others_still_counts(spec: Any) -> None:
    deep = "(" * 30 + "amount.value == 1000" + ")" * 30
    assert hits(spec, book_of(spec, deep, "amount.value == 1000")) == ["r0", "r1"]


terms = st.sampled_from(
    [
        f"{SINCE} > 5.0",
        f"{COUNT} > 2.0",
        f"{SUM} < 100.0",
        "amount.value == 1000",
        f"known.{SINCE}",
        "amount.value / (amount.value - 1000) > 0",
        "true",
        "false",
    ]
)
expressions = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||", "=="]), inner).map(
            lambda parts: f"({parts[0]}) {parts[1]} ({parts[2]})"
        ),
        st.tuples(inner, inner).map(" && ".join),
        inner.map(lambda one: f"!({one})"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]}) ? ({p[1]}) : ({p[2]})"),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    whens=st.lists(expressions, min_size=1, max_size=5),
    values=st.dictionaries(st.sampled_from([COUNT, SUM, SINCE]), st.integers(0, 200)),
)
def test_rules_evaluated_together_say_what_each_says_alone(
    spec: Any, whens: list[str], values: dict[str, int]
) -> None:
    book = book_of(spec, *whens)
    named: dict[str, Any] = {name: float(value) for name, value in values.items()}
    alone = []
    for i, when in enumerate(whens):
        kinds = {n: book.rules.kinds[n] for n in book.rules.kinds}
        compiler = CelCompiler(kinds)
        known = {f"known.{SINCE}": SINCE in values, "amount.value": 1000}
        bound = compiler.bind({k: v for k, v in (named | known).items() if k in kinds})
        try:
            if compiler.compile(when).test(bound):
                alone.append(f"r{i}")
        except Undetermined:
            pass
        except policy_rules.ExpressionFailed:
            alone.append(f"r{i}: error")
    given_values = {name.replace(".", "__"): value for name, value in named.items()}
    absent = [name for name in (COUNT, SUM, SINCE) if name not in values]
    either = {  # a fault beside an absent value: neither has an outcome, and either may be told
        f"r{i}: error" for i, when in enumerate(whens) if any(name in when for name in absent)
    }
    found = hits(spec, book, **given_values)
    assert [hit for hit in found if hit not in either] == [a for a in alone if a not in either]
