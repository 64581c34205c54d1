"""The text of a start: secrets once, addresses that can be opened, a curl line with the right key and model."""

from __future__ import annotations

from pathlib import Path

from token_tracker.config.load import load
from token_tracker.config.values import Configuration
from token_tracker.supervisor.announcement import announcement, entrance
from token_tracker.supervisor.preparation import Outcome

EVERYTHING = ("gateway", "recorder", "api", "dashboard", "worker")


def configured(directory: Path, yaml: str = "", **environ: str) -> Configuration:
    path = directory / "proxy.yaml"
    path.write_text(yaml or "model_list: [{model_name: demo, litellm_params: {model: demo/echo}}]")
    return load({"TOKEN_TRACKER_CONFIG": str(path), **environ}, directory)


def test_what_was_made_just_now_is_shown(tmp_path: Path) -> None:
    made = Outcome(0, created=True, admin_password="secret1", first_key="sk-tt-secret2")
    text = announcement(configured(tmp_path), EVERYTHING, made, 1.23)
    for part in (
        "http://127.0.0.1:8000/v1",
        "http://127.0.0.1:5000/api",
        "http://127.0.0.1:8050",
        "admin   password: secret1   (shown this once)",
        "first key  sk-tt-secret2   (shown this once)",
        '-H "Authorization: Bearer sk-tt-secret2"',
        '"model": "demo"',
    ):
        assert part in text


def test_a_later_start_says_how_to_make_new_ones(tmp_path: Path) -> None:
    text = announcement(configured(tmp_path), EVERYTHING, Outcome(0), 1)
    assert "--reset-admin-password" in text
    assert "-m token_tracker.run keys create 'my key'" in text
    assert "$TT_KEY" in text
    assert "password: " not in text


def test_a_password_of_ones_own_is_not_printed(tmp_path: Path) -> None:
    configuration = configured(tmp_path, TOKEN_TRACKER_ADMIN_PASSWORD="hunter22222")
    text = "\n".join(entrance(configuration, Outcome(0, created=True, first_key="sk-tt-x")))
    assert "the one in TOKEN_TRACKER_ADMIN_PASSWORD" in text
    assert "hunter" not in text


def test_addresses_for_everybody_are_shown_as_this_machines(tmp_path: Path) -> None:
    text = announcement(configured(tmp_path, TOKEN_TRACKER_PROXY_HOST="0.0.0.0"), ("gateway",), Outcome(0), 1)
    assert "http://127.0.0.1:8000/v1" in text
    assert "Dashboard" not in text


def test_without_the_demo_model_the_first_call_asks_for_another(tmp_path: Path) -> None:
    yaml = "model_list: [{model_name: mine, litellm_params: {model: ollama/x}}]"
    assert '"model": "mine"' in announcement(configured(tmp_path, yaml), EVERYTHING, Outcome(0), 1)
    assert "curl http://127.0.0.1:8000" not in announcement(configured(tmp_path, "{}"), EVERYTHING, Outcome(0), 1)
