"""All that a call may reach before its first attempt is made: rules that name any of it count the call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from token_tracker.domain.rules import CallFacts
from token_tracker.proxy.books.records import End, Subject
from token_tracker.proxy.upstreams import Choice, Target

_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reach:
    """`choice`: where the call goes first; `fallbacks`: the names after it, each with where it goes."""

    choice: Choice
    fallbacks: tuple[tuple[str, Choice], ...] = ()
    targets: tuple[Target, ...] = field(init=False)

    def __post_init__(self) -> None:
        groups = (self.choice, *(choice for _, choice in self.fallbacks))
        object.__setattr__(self, "targets", tuple(target for each in groups for target in each.group.targets))

    @property
    def groups(self) -> Sequence[Choice]:
        return (self.choice, *(choice for _, choice in self.fallbacks))


def facts_of(subject: Subject, asked: Iterable[str], targets: Iterable[Target]) -> CallFacts:
    """Of a call that may reach `targets` by the names `asked`."""
    models, providers = set(asked), set()
    for target in targets:
        deployment = target.deployment
        models.update((deployment.name, deployment.model))
        providers.add(deployment.provider)
    return _facts(subject, frozenset(models), frozenset(providers))


def facts_of_row(end: End) -> CallFacts:
    """Of what it was: as the ledger will say it."""
    opened = end.opened
    models = frozenset((opened.requested_model, opened.model_group, opened.model))
    return _facts(opened.subject, models, frozenset((opened.provider,)))


def _facts(subject: Subject, models: frozenset[str], providers: frozenset[str]) -> CallFacts:
    return CallFacts(
        key=subject.key_id,
        user=subject.user,
        team=subject.team,
        agent=subject.agent,
        session=subject.session,
        end_user=subject.end_user,
        tags=subject.tags,
        models=models,
        providers=providers,
    )
