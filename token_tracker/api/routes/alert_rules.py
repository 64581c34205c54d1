"""Alert rules, and silence until a time. A change acts at the worker's next look."""

from __future__ import annotations

from sqlalchemy.orm import Session

from token_tracker.api.alert_schemas import (
    FiringList,
    MutePage,
    MuteSave,
    MuteShown,
    RuleChange,
    RulePage,
    RuleSave,
    RuleShown,
    firing_shown,
    mute_shown,
    rule_shown,
)
from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import PageQuery
from token_tracker.database.models import AlertRule
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.services import alert_mutes, alert_rules
from token_tracker.services.alert_reach import Directory


def list_rules(call: Call, query: PageQuery) -> RulePage:
    with reading(call.engine) as session:
        page = alert_rules.list_rules(session, limit=query.limit, cursor=query.cursor)
        directory = Directory(session)
        return RulePage([_shown(session, rule, directory) for rule in page.items], page.next_cursor)


def create(call: Call, body: RuleSave) -> RuleShown:
    with transaction(call.engine) as session:
        made = alert_rules.create(session, fields=body.fields(), actor=call.actor, at=call.at)
        return _shown(session, made)


def show(call: Call, rule_id: str) -> RuleShown:
    with reading(call.engine) as session:
        return _shown(session, alert_rules.get(session, rule_id=rule_id))


def change(call: Call, rule_id: str, body: RuleChange) -> RuleShown:
    with transaction(call.engine) as session:
        call.expect(_shown(session, alert_rules.get(session, rule_id=rule_id)))
        changed = alert_rules.update(session, rule_id=rule_id, changes=body.fields(), actor=call.actor, at=call.at)
        return _shown(session, changed)


def delete(call: Call, rule_id: str) -> None:
    with transaction(call.engine) as session:
        call.expect(_shown(session, alert_rules.get(session, rule_id=rule_id)))
        alert_rules.delete(session, rule_id=rule_id, actor=call.actor, at=call.at)


def firing(call: Call) -> FiringList:
    with reading(call.engine) as session:
        found = [
            firing_shown(rule, episode, alert_rules.subject_name(session, rule, episode.subject))
            for rule, episode in alert_rules.firing(session)
        ]
        return FiringList(found)


def list_mutes(call: Call, query: PageQuery) -> MutePage:
    with reading(call.engine) as session:
        page = alert_mutes.list_mutes(session, at=call.at, limit=query.limit, cursor=query.cursor)
        return MutePage([mute_shown(mute) for mute in page.items], page.next_cursor)


def mute(call: Call, body: MuteSave) -> MuteShown:
    with transaction(call.engine) as session:
        made = alert_mutes.mute(
            session,
            until=body.until,
            reason=body.reason,
            rule=body.rule,
            subject=body.subject,
            actor=call.actor,
            at=call.at,
        )
        return mute_shown(made)


def unmute(call: Call, mute_id: str) -> None:
    with transaction(call.engine) as session:
        alert_mutes.unmute(session, mute_id=mute_id, actor=call.actor, at=call.at)


def _shown(session: Session, rule: AlertRule, directory: Directory | None = None) -> RuleShown:
    return rule_shown(rule, (directory or Directory(session)).warnings(rule))


READ, MANAGE = Permission.ALERTS_READ, Permission.ALERTS_MANAGE
_RULES, _ONE, _MUTES = "/api/alerts/rules", "/api/alerts/rules/{rule_id}", "/api/alerts/mutes"
ROUTES = (
    Route("GET", _RULES, list_rules, READ, "Alert rules, newest first", RulePage, query=PageQuery),
    Route("POST", _RULES, create, MANAGE, "Make an alert rule", RuleShown, 201, body=RuleSave, errors=(409,)),
    Route("GET", _ONE, show, READ, "One alert rule", RuleShown),
    Route("PATCH", _ONE, change, MANAGE, "Change an alert rule", RuleShown, body=RuleChange, errors=(409, 412)),
    Route("DELETE", _ONE, delete, MANAGE, "Delete an alert rule", status=204, errors=(409,)),
    Route("GET", "/api/alerts/firing", firing, READ, "What rules fire for at this moment", FiringList),
    Route("GET", _MUTES, list_mutes, READ, "Mutes that still hold", MutePage, query=PageQuery),
    Route(
        "POST",
        _MUTES,
        mute,
        MANAGE,
        "Silence a rule, a subject or everything until a time",
        MuteShown,
        201,
        body=MuteSave,
    ),
    Route("DELETE", "/api/alerts/mutes/{mute_id}", unmute, MANAGE, "End a silence", status=204),
)
