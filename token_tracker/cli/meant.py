"""What somebody may mean who gives a name or a scope where an id is needed, as several things may have that name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import click

from token_tracker.database.models import Budget, Freeze, RateLimit
from token_tracker.domain.problems import NotFound

Candidate = tuple[str, str, tuple[str, ...]]  # an id, what to say of it, and what people may call it


def scope_name(scope_type: str, scope_id: str | None) -> str:
    """'team:core', 'global'."""
    return f"{scope_type}:{scope_id}" if scope_id else scope_type


def scope_names(rule: Budget | RateLimit | Freeze) -> tuple[str, ...]:
    """What a rule's SCOPE may have been when it was made: of one model, 'model:gpt-4o' is 'global' for that model."""
    of_model = (f"model:{rule.model}",) if rule.model and rule.scope_type == "global" else ()
    return (scope_name(rule.scope_type, rule.scope_id), *of_model)


@contextmanager
def by_id(noun: str, given: str, candidates: Callable[[], Iterable[Candidate]]) -> Iterator[None]:
    """A NotFound becomes a ClickException with the ids of those that are called so, if there are any."""
    try:
        yield
    except NotFound:
        meant = [f"  {identity}  {about}".rstrip() for identity, about, names in candidates() if given in names]
        if not meant:
            raise
        lines = [f"'{given}' is not the id of a {noun}, which is needed here. What you may mean:", *meant]
        raise click.ClickException("\n".join(lines)) from None
