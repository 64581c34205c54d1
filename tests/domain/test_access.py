"""Roles reach as far as the contract says, and no further."""

import pytest

from token_tracker.domain.access import GRANTS, KeyPermission, Permission, Role, Scope, may_put_on_key, scope_of


def test_every_role_has_grants() -> None:
    assert set(GRANTS) == set(Role)


@pytest.mark.parametrize("permission", list(Permission))
def test_an_admin_may_do_everything_everywhere(permission: Permission) -> None:
    assert scope_of(Role.ADMIN, permission, user="admin", team=None) == Scope()


OWN = {Permission.TOKENS_READ, Permission.TOKENS_MANAGE, Permission.PASSWORD_CHANGE}


def test_a_viewer_reads_all_and_changes_nothing_but_what_is_their_own() -> None:
    for permission in Permission:
        expected = Scope() if permission.endswith(":read") else None
        if permission in OWN:
            expected = Scope(user="eve")
        assert scope_of(Role.VIEWER, permission, user="eve", team="red") == expected


def test_a_manager_reaches_the_own_team_only() -> None:
    scope = scope_of(Role.MANAGER, Permission.KEYS_MANAGE, user="mia", team="red")
    assert scope is not None
    assert scope.covers(user="ben", team="red")
    assert not scope.covers(user="ben", team="blue")
    assert not scope.covers(user="ben", team=None)


@pytest.mark.parametrize("no_team", [None, ""])
def test_a_manager_without_a_team_reaches_only_what_is_their_own(no_team: str | None) -> None:
    scope = scope_of(Role.MANAGER, Permission.USAGE_READ, user="mia", team=no_team)
    assert scope is not None
    assert scope.covers(user="mia", team=None)
    assert not scope.covers(user="ben", team=None)
    assert not scope.covers(user="ben", team="")


def test_a_member_reaches_only_the_own_keys_and_usage_even_within_the_team() -> None:
    scope = scope_of(Role.MEMBER, Permission.USAGE_READ, user="ben", team="red")
    assert scope is not None
    assert scope.covers(user="ben", team="red")
    assert not scope.covers(user="mia", team="red")


@pytest.mark.parametrize("role", [Role.MANAGER, Role.MEMBER, Role.VIEWER])
@pytest.mark.parametrize("permission", [Permission.USERS_MANAGE, Permission.TEAMS_MANAGE])
def test_only_an_admin_manages_users_and_teams(role: Role, permission: Permission) -> None:
    assert scope_of(role, permission, user="mia", team="red") is None


def test_a_member_sees_the_own_account_and_a_manager_the_own_team() -> None:
    member = scope_of(Role.MEMBER, Permission.USERS_READ, user="ben", team="red")
    manager = scope_of(Role.MANAGER, Permission.USERS_READ, user="mia", team="red")
    assert member is not None
    assert manager is not None
    assert member.covers(user="ben", team="red")
    assert not member.covers(user="mia", team="red")
    assert manager.covers(user="ben", team="red")
    assert scope_of(Role.MEMBER, Permission.TEAMS_READ, user="ben", team="red") is None


def test_only_roles_that_answer_for_others_put_permissions_on_keys() -> None:
    allowed = {each: {role for role in Role if may_put_on_key(role, [each])} for each in KeyPermission}
    assert allowed[KeyPermission.INGEST] == {Role.ADMIN, Role.MANAGER}
    assert allowed[KeyPermission.PASSTHROUGH] == {Role.ADMIN}
    assert all(may_put_on_key(role, []) for role in Role)
