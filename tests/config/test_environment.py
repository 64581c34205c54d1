"""Settings: where they come from, what they default to, and what is said of wrong ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.config.files import Files
from token_tracker.config.environment import DEFAULTS, PROVIDER_KEYS
from token_tracker.config.load import ConfigurationError, load_again
from token_tracker.config.paths import keep_config, kept_config_path
from token_tracker.config.values import Address

ROOT = Path(__file__).resolve().parents[2]


def test_every_setting_has_the_default_of_the_contract(files: Files) -> None:
    settings = files.load().settings
    assert settings.proxy == Address("127.0.0.1", 8000)
    assert settings.api == Address("127.0.0.1", 5000)
    assert settings.dashboard == Address("127.0.0.1", 8050)
    assert settings.config_path == files.directory / "config" / "proxy.yaml"
    assert settings.data_dir == files.directory / "data"
    assert settings.database_url.value == f"sqlite:///{files.directory}/data/token_tracker.db"
    assert settings.secret_key is None
    assert settings.admin_password is None
    assert settings.max_body_bytes == 33554432
    assert settings.journal_sync_ms == 100
    assert settings.retention_days is None


def test_dotenv_is_read_and_the_environment_wins_over_it(files: Files) -> None:
    (files.directory / ".env").write_text("TOKEN_TRACKER_API_PORT=5001\nexport TOKEN_TRACKER_PROXY_PORT='8001'\n")
    settings = files.load(TOKEN_TRACKER_PROXY_PORT="8002").settings
    assert (settings.api.port, settings.proxy.port) == (5001, 8002)


def test_an_empty_value_counts_as_unset(files: Files) -> None:
    (files.directory / ".env").write_text("TOKEN_TRACKER_API_PORT=5001\nTOKEN_TRACKER_RETENTION_DAYS=\nDATABASE_URL\n")
    settings = files.load(TOKEN_TRACKER_API_PORT="", DATABASE_URL="").settings
    assert settings.api.port == 5001
    assert settings.retention_days is None
    assert settings.database_url.value.startswith("sqlite:///")


def test_a_dollar_in_dotenv_is_no_reference(files: Files) -> None:
    (files.directory / ".env").write_text("A=x\nTOKEN_TRACKER_ADMIN_PASSWORD='pa${A}ss$A'\n")
    password = files.load().settings.admin_password
    assert password is not None
    assert password.value == "pa${A}ss$A"


def test_an_unknown_setting_names_the_nearest(files: Files) -> None:
    (files.directory / ".env").write_text("TOKEN_TRACKER_RETENTION_DAY=3\n")
    assert files.problems(TOKEN_TRACKER_PORXY_PORT="8000") == [
        "TOKEN_TRACKER_PORXY_PORT is no setting of Token Tracker. Did you mean 'TOKEN_TRACKER_PROXY_PORT'?",
        "TOKEN_TRACKER_RETENTION_DAY is no setting of Token Tracker. Did you mean 'TOKEN_TRACKER_RETENTION_DAYS'?",
    ]


def test_all_problems_of_environment_and_file_come_together(files: Files) -> None:
    problems = files.problems(
        "budgets: {total: 1}\n",
        TOKEN_TRACKER_API_PORT="http",
        TOKEN_TRACKER_MAX_BODY_SIZE="-1",
        TOKEN_TRACKER_RETENTION_DAYS="0",
        TOKEN_TRACKER_DASHBOARD_PORT="8000",
        DATABASE_URL="mysql://me:hunter2@db/x",
        TOKEN_TRACKER_SECRET_KEY="hunter2",
    )
    for name in (
        "API_PORT",
        "MAX_BODY_SIZE",
        "RETENTION_DAYS",
        "DASHBOARD_PORT",
        "DATABASE_URL",
        "SECRET_KEY",
        "budgets",
    ):
        assert any(name in problem for problem in problems), name
    assert len(problems) == 7
    assert "hunter2" not in str(problems)


def test_a_broken_line_of_dotenv_is_named_without_its_text(files: Files) -> None:
    (files.directory / ".env").write_text("A=1\nhunter2 is my 'password\n")
    assert files.problems() == [".env, line 2, is not of the form NAME=value."]


def test_a_missing_file_is_named_with_the_remedy(files: Files) -> None:
    (named,) = files.problems(TOKEN_TRACKER_CONFIG="elsewhere.yaml")
    assert "elsewhere.yaml does not exist" in named
    assert "TOKEN_TRACKER_CONFIG" in named
    (files.directory / "config" / "proxy.yaml").unlink()
    (default,) = files.problems()
    assert "config/proxy.yaml does not exist" in default


@pytest.mark.parametrize(
    "url", ["sqlite:///x.db", "postgresql://u:p@h:5432/d", "postgres://h/d", "postgresql+psycopg2://h/d"]
)
def test_databases_that_are_known_are_taken_as_they_are(files: Files, url: str) -> None:
    assert files.load(DATABASE_URL=url).settings.database_url.value == url


def test_a_secret_does_not_show_itself(files: Files) -> None:
    configuration = files.load(
        "model_list: [{model_name: a, litellm_params: {model: openai/a, api_key: '${OPENAI_API_KEY}', x: '${OTHER}'}}]",
        OPENAI_API_KEY="hunter2",
        OTHER="hunter2",
        DATABASE_URL="postgresql://u:hunter2@h/d",
        TOKEN_TRACKER_ADMIN_PASSWORD="hunter2",
        TOKEN_TRACKER_SECRET_KEY="hunter2" * 8,
    )
    assert "hunter2" not in repr(configuration)
    assert configuration.models.exact["a"][0].litellm_params == {"x": "hunter2"}


def test_the_example_file_names_exactly_the_settings_that_exist() -> None:
    lines = re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert dict(lines) == {**DEFAULTS, **dict.fromkeys(PROVIDER_KEYS, "")}


def test_the_table_in_the_docs_names_exactly_the_settings_that_exist() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    names = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", text, re.MULTILINE)
    assert sorted(names) == sorted([*DEFAULTS, *PROVIDER_KEYS])
    for name, default in DEFAULTS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert not default or f"`{default}`" in row, name


def test_a_provider_key_that_fits_into_no_header_is_named_and_not_shown(files: Files) -> None:
    problems = files.problems(OPENAI_API_KEY="sk-secret\nx-evil: 1")
    assert any("OPENAI_API_KEY holds a line break" in problem for problem in problems)
    assert "sk-secret" not in str(problems)


def test_a_data_directory_that_fits_into_no_url_is_refused(files: Files) -> None:
    (problem,) = files.problems(TOKEN_TRACKER_DATA_DIR="what?")
    assert "TOKEN_TRACKER_DATA_DIR contains a '?'" in problem


def test_a_certificate_without_its_key_or_that_is_none_is_named(files: Files) -> None:
    problems = files.problems(TOKEN_TRACKER_TLS_CERT="cert.pem")
    assert problems == ["TOKEN_TRACKER_TLS_KEY is missing: TLS needs the certificate and its key."]
    (files.directory / "cert.pem").write_text("no certificate")
    (files.directory / "key.pem").write_text("no key")
    (problem,) = files.problems(TOKEN_TRACKER_API_TLS_CERT="cert.pem", TOKEN_TRACKER_API_TLS_KEY="key.pem")
    assert problem.startswith("TOKEN_TRACKER_API_TLS_CERT and TOKEN_TRACKER_API_TLS_KEY cannot be used:")


def test_the_log_and_the_port_of_the_metrics_can_be_chosen(files: Files) -> None:
    chosen = {"LOG_FORMAT": "json", "LOG_CALLS": "false", "METRICS_PORT": "9101", "PROXY_HOST": "0.0.0.0"}
    settings = files.load(**{f"TOKEN_TRACKER_{name}": value for name, value in chosen.items()}).settings
    assert (settings.log_format, settings.log_calls) == ("json", False)
    assert settings.metrics == Address("0.0.0.0", 9101)
    assert files.problems(TOKEN_TRACKER_LOG_FORMAT="xml", TOKEN_TRACKER_METRICS_PORT="5000") == [
        "TOKEN_TRACKER_LOG_FORMAT must be one of text, json.",
        "TOKEN_TRACKER_METRICS_PORT and TOKEN_TRACKER_API_PORT are both 5000: change one.",
    ]


def test_several_gateway_workers_need_a_redis_to_count_together(files: Files) -> None:
    (problem,) = files.problems(TOKEN_TRACKER_PROXY_WORKERS="4")
    assert "TOKEN_TRACKER_PROXY_WORKERS is 4, but REDIS_URL is not set" in problem
    settings = files.load(TOKEN_TRACKER_PROXY_WORKERS="4", REDIS_URL="redis://:hunter2@host:6379/1").settings
    assert settings.proxy_workers == 4 and settings.redis_url is not None
    assert "hunter2" not in repr(settings)


def test_two_installations_may_share_a_redis_under_names_of_their_own(files: Files) -> None:
    assert files.load().settings.redis_namespace == "token-tracker"
    assert files.load(TOKEN_TRACKER_REDIS_NAMESPACE="staging").settings.redis_namespace == "staging"
    (problem,) = files.problems(TOKEN_TRACKER_REDIS_NAMESPACE="a{b}")
    assert problem == "TOKEN_TRACKER_REDIS_NAMESPACE may hold letters, digits, '_', '.' and '-', at most 64."


def test_a_store_that_is_no_redis_is_refused_without_showing_its_password(files: Files) -> None:
    (problem,) = files.problems(REDIS_URL="http://:hunter2@host")
    assert problem.startswith("REDIS_URL must begin with redis://") and "hunter2" not in problem


def test_a_process_that_starts_while_the_file_is_wrong_takes_the_last_good_one(files: Files) -> None:
    good = files.load("model_list: [{model_name: a, litellm_params: {model: demo/echo}}]")
    keep_config(good.settings)
    files.yaml("model_lst: []")
    found, problems = load_again({}, files.directory)
    assert list(found.models.exact) == ["a"] and found.settings == good.settings
    assert "model_lst" in problems[0]
    files.yaml("model_list: []")
    found, problems = load_again({}, files.directory)
    assert not found.models.exact and problems == ()
    kept_config_path(good.settings).unlink()
    files.yaml("model_lst: []")
    with pytest.raises(ConfigurationError):
        load_again({}, files.directory)
