"""The table of docs/access.md: read for the tests, and written anew by `python -m tests.api.access.matrix`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flask import Flask

from token_tracker.api.routes import ROUTES
from token_tracker.api.routing import Open
from token_tracker.domain.access import GRANTS, Permission, Role
from token_tracker.services.service_tokens import OF_PEOPLE

PAGE = Path(__file__).resolve().parents[3] / "docs" / "access.md"
ROLES = (Role.ADMIN, Role.MANAGER, Role.MEMBER, Role.VIEWER)
OPEN, NEVER = "open", "–"
_HEAD = "| route | needs | admin | manager | member | viewer | service token |\n" + "| --- " * 7 + "|\n"
_ROW = re.compile(r"^\| `([A-Z]+) (/\S*)` \| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """`reach` of each role: all, team, own, – (403) or open; `by_token`: yes, – (403) or open."""

    needs: str
    reach: dict[Role, str]
    by_token: str


Matrix = dict[tuple[str, str], Row]


def written() -> Matrix:
    """As the page has it."""
    return {
        (method, path): Row(needs.strip("`"), dict(zip(ROLES, reaches, strict=True)), by_token)
        for method, path, needs, *reaches, by_token in _ROW.findall(PAGE.read_text())
    }


def served(app: Flask) -> set[tuple[str, str]]:
    """Every method and path of the application's own map, whoever put it there; HEAD is GET without the body."""
    return {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }


def _lines(paths: Iterable[tuple[str, str]]) -> Iterable[str]:
    permissions = {(route.method, route.path): route.permission for route in ROUTES}
    for method, path in sorted(paths, key=lambda each: (each[1], each[0])):
        permission = permissions.get((method, path), Open.TO_ALL)
        if isinstance(permission, Permission):
            cells = [f"`{permission}`", *(str(GRANTS[role].get(permission, NEVER)) for role in ROLES)]
            cells.append(NEVER if permission in OF_PEOPLE else "yes")
        else:
            cells = [NEVER, *[OPEN] * (len(ROLES) + 1)]
        yield f"| `{method} {path}` | {' | '.join(cells)} |\n"


def write() -> None:
    """The table by what the code grants; the text around it stays."""
    from token_tracker.api.app import create_app
    from token_tracker.database.session import make_engine

    app = create_app(make_engine("postgresql://nobody@127.0.0.1:1/none"), b"secret")
    before, _, rest = PAGE.read_text().partition(_HEAD)
    after = rest[rest.index("\n\n") :] if "\n\n" in rest else "\n"
    PAGE.write_text(before + _HEAD + "".join(_lines(served(app))).rstrip("\n") + after)


if __name__ == "__main__":
    write()
