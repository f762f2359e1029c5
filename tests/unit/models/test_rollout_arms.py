"""An entity sticks to its arm, and stays in it as the share grows."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event import Event
from features.spec import Spec
from models.rollout import Selector
from models.rollout_arms import Arm, ArmPicker, place_of
from tests.builders_rollout import a_plan, a_rollout
from tests.fakes_serving import a_spec, an_event

CARDS = 20_000
SIGMAS = 5


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return a_spec(Path(tmp_path_factory.mktemp("spec")))


def arms(spec: Spec, share: float, number: int = 1, count: int = 2000) -> list[Arm | None]:
    picker = ArmPicker(spec, a_rollout(number=number, plan=a_plan((share,))))
    return [picker.arm_of(an_event(card=f"c{i}", merchant="m")) for i in range(count)]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.25, 0.5, 1.0])
def test_the_candidate_gets_its_share(spec: Spec, share: float) -> None:
    chosen = arms(spec, share, count=CARDS).count("candidate")
    spread = SIGMAS * (share * (1 - share) / CARDS) ** 0.5
    assert chosen / CARDS == pytest.approx(share, abs=spread + 1e-12)


def test_who_is_in_the_small_share_stays_in_the_larger_one(spec: Spec) -> None:
    inside: set[int] = set()
    for share in (0.01, 0.05, 0.25, 0.8, 1.0):
        now = {i for i, arm in enumerate(arms(spec, share)) if arm == "candidate"}
        assert inside <= now
        inside = now
    assert len(inside) == 2000


def test_another_rollout_tries_other_cards(spec: Spec) -> None:
    one, other = (
        {i for i, arm in enumerate(arms(spec, 0.2, number)) if arm == "candidate"}
        for number in (1, 2)
    )
    assert 0.1 < len(one & other) / len(one) < 0.3  # a fifth, as of any cards


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8), st.integers(1, 9))
def test_the_arm_depends_on_tenant_and_entity_alone(tenant: str, card: str, number: int) -> None:
    assert place_of(number, tenant, card) == place_of(number, tenant, card)
    assert 0 <= place_of(number, tenant, card) < 2**64


def pick(spec: Spec, selector: Selector, event: Event) -> Arm | None:
    plan = a_plan((1.0,), selector=selector)
    return ArmPicker(spec, a_rollout(plan=plan)).arm_of(event)


def test_events_that_are_not_selected_take_no_part(spec: Spec) -> None:
    event = msgspec.structs.replace(
        an_event(card="c1", merchant="m1"),
        attributes={"channel": "ecom", "present": True, "mcc": 5732},
        tenant="acme",
    )
    for chosen in (
        Selector(),
        Selector(entity="merchant"),
        Selector(tenants=("other", "acme")),
        Selector(attributes={"channel": "ecom"}),
        Selector(attributes={"present": "true", "mcc": "5732"}),
    ):
        assert pick(spec, chosen, event) == "candidate"
    for left_out in (
        Selector(entity="device"),
        Selector(tenants=("other",)),
        Selector(attributes={"channel": "pos"}),
        Selector(attributes={"country": "FR"}),
        Selector(attributes={"channel": "ecom", "present": "false"}),
    ):
        assert pick(spec, left_out, event) is None


def test_the_chosen_entity_decides(spec: Spec) -> None:
    plan = a_plan((0.5,), selector=Selector(entity="merchant"))
    picker = ArmPicker(spec, a_rollout(plan=plan))
    for merchant in ("m1", "m2", "m3", "m4"):
        found = {picker.arm_of(an_event(card=f"c{i}", merchant=merchant)) for i in range(50)}
        assert len(found) == 1


def test_nobody_is_the_candidates_once_it_is_over(spec: Spec) -> None:
    event = an_event()
    for stage, arm in (("rolled_back", "stable"), ("aborted", "stable"), ("promoted", "candidate")):
        rollout = a_rollout(stage=stage, plan=a_plan((1.0,)))
        assert ArmPicker(spec, rollout).arm_of(event) == arm
