"""`python -m token_tracker.database.init`, run as people and the supervisor run it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, make_url, select, text

from token_tracker.database.init import EXIT_CONFIGURATION, EXIT_DATABASE
from token_tracker.database.models import ApiKey, ConfigVersion, PriceRow, RateLimit, User
from token_tracker.database.session import make_engine, reading, transaction
from token_tracker.services import accounts, keys, refresh_tokens

COMMAND = (sys.executable, "-W", "error", "-m", "token_tracker.database.init")
PROXY_YAML = """
model_list: []
rate_limits:
  - {model: gpt-3.5-turbo, limit: 10, period: minute}
"""
only_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


class Installation:
    """A working directory with a configuration, and a database that may have no tables yet."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.directory = directory
        self.url = database_url
        (directory / "config").mkdir()
        (directory / "config" / "proxy.yaml").write_text(PROXY_YAML)

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        given = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "DATABASE_URL": self.url} | environ
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.directory,
            env=given,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def run_json(self, *arguments: str, **environ: str) -> dict[str, Any]:
        code, out, err = self.run("--json", *arguments, **environ)
        assert (code, err) == (0, "")
        answer: dict[str, Any] = json.loads(out)
        return answer

    def opens(self, password: str) -> bool:
        engine = make_engine(self.url)
        with reading(engine) as session:
            user = accounts.authenticate(session, username="admin", password=password)
        engine.dispose()
        return user is not None and user.role == "admin"


@pytest.fixture
def installation(tmp_path: Path, database_url: str) -> Installation:
    return Installation(tmp_path, database_url)


def test_a_first_run_lays_everything_and_a_second_changes_and_shows_nothing(installation: Installation) -> None:
    first = installation.run_json()
    assert first["created"] is True
    assert len(first["admin_password"]) >= 20
    assert installation.opens(first["admin_password"])
    assert not any("ENFORCED" in warning for warning in first["warnings"])

    def state() -> list[object]:
        engine = make_engine(installation.url)
        with reading(engine) as session:
            key = session.scalars(select(ApiKey)).one()
            assert (key.name, key.user_id, key.models) == ("first key", "admin", ["*"])
            assert key.hash == keys.hash_of(first["first_key"])
            assert session.scalars(select(RateLimit.limit)).all() == [10]
            user = session.scalars(select(User)).one()
            counts = session.scalars(select(func.count()).select_from(PriceRow)).one()
            state = [key.id, user.password_hash, counts, session.scalars(select(ConfigVersion.version)).one()]
        engine.dispose()
        return state

    before = state()
    second = installation.run_json()
    assert {name: second[name] for name in ("created", "admin_password", "first_key")} == {
        "created": False,
        "admin_password": None,
        "first_key": None,
    }
    assert state() == before


@only_sqlite
def test_people_are_told_the_secrets_once(installation: Installation) -> None:
    _, first, _ = installation.run()
    assert "The database was created." in first
    assert "Login: admin" in first
    assert "sk-tt-" in first
    code, second, _ = installation.run()
    assert code == 0
    assert "up to date" in second
    assert "sk-tt-" not in second
    assert "Login" not in second


@only_sqlite
def test_without_a_database_url_it_lies_in_the_data_directory_and_is_private(installation: Installation) -> None:
    assert installation.run("--json", DATABASE_URL="")[0] == 0
    path = installation.directory / "data" / "token_tracker.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_of_two_first_runs_at_once_one_makes_the_secrets(installation: Installation) -> None:
    processes = [installation.start("--json") for _ in range(2)]
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        answers.append(json.loads(out))
    made, found = sorted(answers, key=lambda answer: not answer["created"])
    assert (made["created"], found["created"]) == (True, False)
    assert made["first_key"]
    assert (found["first_key"], found["admin_password"]) == (None, None)
    assert installation.opens(made["admin_password"])


@only_sqlite
def test_a_chosen_admin_password_opens_and_is_not_printed(installation: Installation) -> None:
    chosen = "a password of my own"
    code, out, err = installation.run(TOKEN_TRACKER_ADMIN_PASSWORD=chosen)
    assert code == 0
    assert chosen not in out + err
    assert "TOKEN_TRACKER_ADMIN_PASSWORD" in out
    assert installation.opens(chosen)


@only_sqlite
def test_a_weak_admin_password_is_refused_and_nothing_is_laid(installation: Installation) -> None:
    code, out, err = installation.run(TOKEN_TRACKER_ADMIN_PASSWORD="admin")
    assert (code, out) == (EXIT_CONFIGURATION, "")
    assert "TOKEN_TRACKER_ADMIN_PASSWORD" in err
    assert installation.run_json()["created"] is True


@only_sqlite
def test_resetting_the_admin_password_gives_a_way_back_in_and_ends_old_logins(installation: Installation) -> None:
    old = installation.run_json()["admin_password"]
    engine = make_engine(installation.url)
    with transaction(engine) as session:
        user = session.get_one(User, "admin")
        login = refresh_tokens.issue(session, user_id="admin", at=user.created_at)
        user.role, user.disabled_at = "viewer", user.created_at
        created_at = user.created_at
    new = installation.run_json("--reset-admin-password")["admin_password"]
    assert new != old
    assert installation.opens(new)
    assert not installation.opens(old)
    with transaction(engine) as session:
        assert refresh_tokens.rotate(session, token=login, at=created_at) is None
    engine.dispose()
    assert (
        installation.run_json("--reset-admin-password", TOKEN_TRACKER_ADMIN_PASSWORD="chosen now")["admin_password"]
        is None
    )
    assert installation.opens("chosen now")


@only_sqlite
@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("mysql://ann:geheim@127.0.0.1/books", EXIT_CONFIGURATION, "DATABASE_URL"),
        ("sqlite:////nowhere/at/all.db", EXIT_CONFIGURATION, "DATABASE_URL"),
        ("postgresql://ann:geheim@127.0.0.1:1/books", EXIT_DATABASE, "DATABASE_URL"),
        ("sqlite:///config/proxy.yaml", EXIT_DATABASE, "DATABASE_URL"),
    ],
)
def test_a_wrong_database_url_is_named_with_a_remedy_and_without_its_password(
    installation: Installation, url: str, code: int, says: str
) -> None:
    exit_code, out, err = installation.run(DATABASE_URL=url)
    assert (exit_code, out) == (code, "")
    assert says in err
    assert "geheim" not in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1


@only_sqlite
def test_a_broken_configuration_is_refused_with_all_its_problems(installation: Installation) -> None:
    (installation.directory / "config" / "proxy.yaml").write_text("model_lst: []\nbudgte: {}\n")
    code, out, err = installation.run()
    assert (code, out) == (EXIT_CONFIGURATION, "")
    assert "model_lst" in err
    assert "budgte" in err


def test_a_database_of_a_newer_version_is_left_alone(installation: Installation) -> None:
    installation.run_json()
    engine = make_engine(installation.url)
    with transaction(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    code, out, err = installation.run("--reset-admin-password")
    assert (code, out) == (EXIT_DATABASE, "")
    assert "9999" in err
    assert "Upgrade Token Tracker" in err


@only_sqlite
def test_a_run_on_a_prepared_database_loads_neither_alembic_nor_argon2_nor_litellm(installation: Installation) -> None:
    installation.run_json()
    program = (
        "import sys; from token_tracker.database.init import main; main(['--json']); "
        "print(*[name for name in ('alembic', 'argon2', 'litellm', 'psycopg2') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=installation.directory,
        env={"DATABASE_URL": installation.url},
        text=True,
        capture_output=True,
        check=True,
    )
    assert result.stdout.splitlines()[1:] == [""]


@only_sqlite
def test_a_first_run_that_is_killed_leaves_no_half_made_installation(installation: Installation) -> None:
    """Whenever it dies, the next run finds everything or makes everything."""
    path = Path(make_url(installation.url).database or "")
    process = installation.start("--json")
    while process.poll() is None and not path.with_name(f"{path.name}-wal").exists():
        time.sleep(0.001)  # until it writes
    process.kill()
    process.communicate(timeout=60)
    answer = installation.run_json()
    assert bool(answer["first_key"]) is bool(answer["admin_password"]) is answer["created"]
    engine = make_engine(installation.url)
    with reading(engine) as session:
        assert session.scalars(select(User.id)).all() == ["admin"]
        assert session.scalars(select(ApiKey.name)).all() == ["first key"]
        assert session.scalars(select(RateLimit.limit)).all() == [10]
        assert session.scalars(select(func.count()).select_from(PriceRow)).one() > 3000
    engine.dispose()
