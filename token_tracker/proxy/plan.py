"""Which deployments a call may be tried at, one after the other: by order and weight, again, then its fallbacks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from token_tracker.proxy.upstreams import Target

SEVERAL_RETRIES = 2  # LiteLLM's own number, where several deployments have a name and nothing else is said


@dataclass(frozen=True, slots=True)
class Group:
    """The deployments of one name. `num_retries` None: by their number."""

    name: str
    targets: tuple[Target, ...]
    num_retries: int | None = None

    def retries_after(self, target: Target) -> int:
        """How often a call may be repeated within the group when `target` was the first to fail."""
        for number in (target.deployment.num_retries, self.num_retries):
            if number is not None:
                return number
        return SEVERAL_RETRIES if len(self.targets) > 1 else 0

    def levels(self) -> Iterator[list[Target]]:
        """Those of equal order together, the lowest first, those without one last."""
        for _, level in groupby(sorted(self.targets, key=_order), key=_order):
            yield list(level)


@dataclass(frozen=True, slots=True)
class Step:
    """Where the next attempt goes. `repeats`: how often the group was gone through before."""

    target: Target
    name: str
    repeats: int = 0


def steps(groups: Sequence[Group], now_s: Callable[[], float]) -> Iterator[Step]:
    """All attempts that a call may make, each chosen when it is asked for. The first group is the model's own, the
    others its fallbacks.

    Within a group each deployment comes once before any comes again: `num_retries` of them in all besides the first,
    but one of every order in any case. Those that rest are left out, unless nothing else is there at all.
    """
    is_tried = False
    for group in groups:
        for step in _within(group, now_s):
            is_tried = True
            yield step
    if not is_tried:
        yield Step(pick(next(groups[0].levels())), groups[0].name)


def pick(targets: Sequence[Target]) -> Target:
    """By weight; those of weight 0 only where no other is left."""
    if len(targets) == 1:
        return targets[0]
    weights = [max(0.0, each.deployment.weight) for each in targets]
    return random.choices(targets, weights if sum(weights) > 0 else None)[0]  # noqa: S311 (balance, no secret)


def _within(group: Group, now_s: Callable[[], float]) -> Iterator[Step]:
    tried: list[Target] = []
    retries = 0
    for level in group.levels():
        is_first = True
        while (awake := [each for each in level if not each.rests(now_s())]) and (is_first or retries > 0):
            target = pick(awake)
            yield Step(target, group.name)
            retries = max(0, retries - 1) if tried else group.retries_after(target)
            tried.append(target)
            level.remove(target)
            is_first = False
    repeats = 0
    while retries > 0 and (awake := [each for each in tried if not each.rests(now_s())]):
        repeats += 1
        for target in awake[:retries]:
            retries -= 1
            yield Step(target, group.name, repeats)


def _order(target: Target) -> float:
    order = target.deployment.order
    return float("inf") if order is None else order
