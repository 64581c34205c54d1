"""Budgets. A change acts on the gateway within two seconds."""

from __future__ import annotations

from typing import Any

from token_tracker.api.budget_schemas import (
    BudgetChange,
    BudgetPage,
    BudgetSave,
    BudgetShown,
    Release,
    ReleasedShown,
    Status,
    StatusPage,
    StatusQuery,
    TopUp,
    TopUpShown,
    budget_shown,
    released_shown,
    status_shown,
    top_up_shown,
)
from token_tracker.api.routing import Answer, Call, Route
from token_tracker.api.schemas import PageQuery
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.domain.problems import Invalid
from token_tracker.domain.rules import EACH
from token_tracker.services import budget_status, budgets, releases


def list_budgets(call: Call, query: PageQuery) -> BudgetPage:
    with reading(call.engine) as session:
        page = budgets.list_budgets(session, scope=call.scope, limit=query.limit, cursor=query.cursor)
        return BudgetPage([budget_shown(budget) for budget in page.items], page.next_cursor)


def save(call: Call, body: BudgetSave) -> Answer:
    with transaction(call.engine) as session:
        budget, is_new = budgets.save(session, actor=call.actor, at=call.at, **_named(body.fields()))
        return Answer(budget_shown(budget), 201 if is_new else 200)


def show(call: Call, budget_id: str) -> BudgetShown:
    with reading(call.engine) as session:
        return budget_shown(budgets.get(session, budget_id=budget_id, scope=call.scope))


def change(call: Call, budget_id: str, body: BudgetChange) -> BudgetShown:
    with transaction(call.engine) as session:
        call.expect(budget_shown(budgets.get(session, budget_id=budget_id)))
        changes: Any = body.fields()
        return budget_shown(budgets.update(session, budget_id=budget_id, actor=call.actor, at=call.at, **changes))


def delete(call: Call, budget_id: str) -> None:
    with transaction(call.engine) as session:
        budgets.delete(session, budget_id=budget_id, actor=call.actor, at=call.at)


def status(call: Call, budget_id: str, query: StatusQuery) -> Status | StatusPage:
    with reading(call.engine) as session:
        budget = budgets.get(session, budget_id=budget_id, scope=call.scope)
        if budget.scope_id != EACH or query.member is not None:
            member = query.member or ""
            found = budget_status.status(session, budget_id=budget_id, at=call.at, member=member, scope=call.scope)
            return status_shown(found)
        page = budget_status.members(
            session, budget_id=budget_id, at=call.at, limit=query.limit, cursor=query.cursor, scope=call.scope
        )
        return StatusPage([status_shown(each) for each in page.items], page.next_cursor)


def top_up(call: Call, budget_id: str, body: TopUp) -> TopUpShown:
    with transaction(call.engine) as session:
        made = budgets.top_up(
            session, budget_id=budget_id, amount_usd=body.amount_usd, until=body.until, actor=call.actor, at=call.at
        )
        return top_up_shown(made)


def release(call: Call, budget_id: str, body: Release) -> ReleasedShown:
    with transaction(call.engine) as session:
        done = releases.release(
            session, budget_id=budget_id, calls=body.call_ids, reason=body.reason, actor=call.actor, at=call.at
        )
        return released_shown(done)


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    """Absent and null mean the same where nothing is there yet."""
    if fields.get("name", "x") is None:
        raise Invalid([("name", "is required")])
    return fields


READ, MANAGE = Permission.RULES_READ, Permission.RULES_MANAGE
ROUTES = (
    Route("GET", "/api/budgets", list_budgets, READ, "Budgets, newest first", BudgetPage, query=PageQuery),
    Route(
        "POST",
        "/api/budgets",
        save,
        MANAGE,
        "Make a budget (201), or change that of the same scope, model and period (200)",
        BudgetShown,
        201,
        body=BudgetSave,
        other_statuses=(200,),
        errors=(409,),
    ),
    Route("GET", "/api/budgets/{budget_id}", show, READ, "One budget", BudgetShown),
    Route(
        "PATCH",
        "/api/budgets/{budget_id}",
        change,
        MANAGE,
        "Change a budget",
        BudgetShown,
        body=BudgetChange,
        errors=(409, 412),
    ),
    Route("DELETE", "/api/budgets/{budget_id}", delete, MANAGE, "Delete a budget", status=204, errors=(409,)),
    Route(
        "GET",
        "/api/budgets/{budget_id}/status",
        status,
        READ,
        "Where a budget stands: spent, held, unproven, remaining; for '*' each member (a page of such objects)",
        Status,
        query=StatusQuery,
        also_answers=(StatusPage,),
    ),
    Route(
        "POST",
        "/api/budgets/{budget_id}/top-up",
        top_up,
        MANAGE,
        "Raise the limit for a while",
        TopUpShown,
        201,
        body=TopUp,
        errors=(409,),
    ),
    Route(
        "POST",
        "/api/budgets/{budget_id}/release",
        release,
        MANAGE,
        "End what calls left unproven",
        ReleasedShown,
        body=Release,
        errors=(409,),
    ),
)
