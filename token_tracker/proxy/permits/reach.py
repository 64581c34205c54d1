"""All that a call may reach before its first attempt is made: rules that name any of it count the call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from token_tracker.domain.rules import CallFacts
from token_tracker.proxy.books.records import End, Subject
from token_tracker.proxy.upstreams import Choice, Target


@dataclass(frozen=True, slots=True)
class Reach:
    """`choice`: where the call goes first; `fallbacks`: the names after it, each with where it goes."""

    choice: Choice
    fallbacks: tuple[tuple[str, Choice], ...] = ()
    targets: tuple[Target, ...] = field(init=False)

    def __post_init__(self) -> None:
        targets = self.choice.group.targets
        for _, choice in self.fallbacks:
            targets += choice.group.targets
        object.__setattr__(self, "targets", targets)


@lru_cache(maxsize=4096)
def _set(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names)


def facts_of(subject: Subject, asked: Iterable[str], targets: Iterable[Target]) -> CallFacts:
    """Of a call that may reach `targets` by the names `asked`."""
    models, providers = list(asked), []
    for target in targets:
        deployment = target.deployment
        models += (deployment.name, deployment.model)
        providers.append(deployment.provider)
    return _facts(subject, _set(tuple(models)), _set(tuple(providers)))


def facts_of_row(end: End) -> CallFacts:
    """Of what it was: as the ledger will say it."""
    opened = end.opened
    models = (opened.requested_model, opened.model_group, opened.model)
    return _facts(opened.subject, _set(models), _set((opened.provider,)))


def _facts(subject: Subject, models: frozenset[str], providers: frozenset[str]) -> CallFacts:
    return CallFacts(
        *(subject.key_id, subject.user, subject.team, subject.agent, subject.session, subject.end_user),
        tags=subject.tags,
        models=models,
        providers=providers,
    )
