"""In which order deployments are tried."""

from __future__ import annotations

from typing import Any

from tests.proxy.test_upstreams import deployment, upstreams
from token_tracker.config.values import Deployment, Routing
from token_tracker.domain.providers import WireFormat
from token_tracker.proxy.plan import Group, Step, pick, steps


def group(*members: Deployment, name: str = "m", **routing: Any) -> Group:
    choice = upstreams(exact={name: members}, routing=Routing(**routing)).choice(name, WireFormat.CHAT)
    assert choice is not None
    return choice.group


def member(model: str, **more: Any) -> Deployment:
    return deployment("m", model=model, **more)


def walked(*groups: Group, now_s: float = 0.0) -> list[str]:
    return [step.target.deployment.model for step in steps(groups, lambda: now_s)]


def test_calls_are_shared_out_by_weight() -> None:
    targets = group(member("light", weight=1), member("heavy", weight=9)).targets
    picked = [pick(targets).deployment.model for _ in range(2000)]
    assert 100 < picked.count("light") < 320  # 200 expected; these bounds are 7 standard deviations away


def test_a_deployment_of_weight_0_is_only_there_for_when_no_other_is() -> None:
    targets = group(member("off", weight=0), member("on")).targets
    assert {pick(targets).deployment.model for _ in range(50)} == {"on"}
    assert walked(group(member("off", weight=0), member("on"), num_retries=1)) == ["on", "off"]
    assert pick(group(member("off", weight=0), member("off", weight=0)).targets).deployment.model == "off"


def test_one_deployment_is_tried_once_and_several_two_times_more() -> None:
    assert walked(group(member("a"))) == ["a"]
    both = walked(group(member("a"), member("b")))
    assert sorted(both[:2]) == ["a", "b"] and len(both) == 3 and both[2] == both[0]
    assert len(set(walked(group(*(member(name) for name in "abcd"))))) == 3


def test_num_retries_counts_all_attempts_but_the_first() -> None:
    assert walked(group(member("a"), num_retries=3)) == ["a"] * 4
    assert len(walked(group(member("a"), member("b"), num_retries=0))) == 1
    assert walked(group(member("a", num_retries=1), num_retries=5)) == ["a", "a"], "the entry's own wins"


def test_a_repetition_is_known_as_one_so_that_it_waits() -> None:
    found = [step.repeats for step in steps([group(member("a"), member("b"), num_retries=4)], lambda: 0.0)]
    assert found == [0, 0, 1, 1, 2]


def test_lower_orders_go_first_and_each_order_has_its_turn_whatever_num_retries_says() -> None:
    members = (member("last"), member("second", order=2), member("first", order=1))
    assert walked(group(*members, num_retries=0)) == ["first", "second", "last"]
    assert walked(group(*members, num_retries=2)) == ["first", "second", "last"]
    assert walked(group(*members, num_retries=4)) == ["first", "second", "last", "first", "second"]


def test_fallbacks_come_after_the_models_own_retries_with_their_own() -> None:
    other = group(deployment("n", model="x"), deployment("n", model="x"), name="n", num_retries=1)
    found = list(steps([group(member("a"), num_retries=1), other], lambda: 0.0))
    assert [(step.name, step.target.deployment.model) for step in found] == [("m", "a")] * 2 + [("n", "x")] * 2


def rested(made: Group, *models: str) -> Group:
    for target in made.targets:
        if target.deployment.model in models:
            assert target.health is not None
            target.health.failed(0.0, 429, None)  # for 5 s
    return made


def test_what_rests_is_left_out_until_it_is_awake_again() -> None:
    made = rested(group(member("a", order=1), member("b", order=2), num_retries=0), "a")
    assert walked(made, now_s=4.9) == ["b"]
    assert walked(made, now_s=5.0) == ["a", "b"]


def test_a_deployment_that_begins_to_rest_while_a_call_goes_on_is_not_asked_again() -> None:
    made = group(member("a"), member("b"))
    found: list[Step] = []
    for step in steps([made], lambda: 0.0):
        found.append(step)
        assert step.target.health is not None
        step.target.health.failed(0.0, 429, None)
    assert sorted(step.target.deployment.model for step in found) == ["a", "b"]


def test_where_all_rest_the_fallback_goes_first_and_without_one_the_model_is_asked_all_the_same() -> None:
    made = rested(group(member("a"), member("b")), "a", "b")
    assert walked(made, group(member("x"), name="n"), now_s=1.0) == ["x"]
    assert walked(made, now_s=1.0) in (["a"], ["b"])
