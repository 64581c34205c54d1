"""A configuration changed under a whole installation: seen by itself, or by SIGHUP, and never at a call's cost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

from tests.functional.installation import DEMO_MODEL, Installation, wait_until


def named(name: str, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {**DEMO_MODEL["litellm_params"], **params}}


def write(installation: Installation, config: Any) -> None:
    """As an editor does it."""
    beside = installation.config_path.with_suffix(".new")
    beside.write_text(config if isinstance(config, str) else json.dumps(config))
    beside.replace(installation.config_path)


def status_of(installation: Installation, model: str) -> int:
    return int(installation.chat(model=model)[0])


def query(installation: Installation, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{installation.data_dir}/token_tracker.db?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_a_changed_file_acts_by_itself_and_a_bad_one_does_not(tmp_path: Path) -> None:
    with Installation(tmp_path) as installation:
        installation.start("proxy")
        gateway = installation.child_pids("gateway")
        assert status_of(installation, "second") == 404
        write(
            installation,
            {
                "model_list": [DEMO_MODEL, named("second", input_cost_per_token=0.5)],
                "rate_limits": [{"model": "demo", "limit": 1000, "period": "minute"}],
            },
        )
        wait_until(lambda: status_of(installation, "second") == 200, 10, "the new model")
        wait_until(lambda: query(installation, "select count(*) from rate_limits")[0][0] == 1, 20, "the rule's row")
        write(installation, "model_list: [oops")
        wait_until(lambda: "cannot be used" in installation.printed, 10, "what is wrong")
        assert status_of(installation, "second") == 200
        reasons = wait_until(lambda: reason(installation, "configuration"), 10, "the reason")
        assert "not in use" in reasons
        for name in ("gateway", "recorder"):
            os.kill(installation.child_pids(name)[0], signal.SIGKILL)
        wait_until(lambda: installation.child_pids("gateway") not in ([], gateway), 20, "the next gateway")
        wait_until(lambda: installation._proxy_ready(), 20, "its start with what was good")
        assert status_of(installation, "second") == 200
        assert "not in use" in reason(installation, "configuration")
        wait_until(lambda: not reason(installation, "recorder"), 20, "the next recorder")
        write(installation, {"model_list": [DEMO_MODEL, named("third")]})
        wait_until(lambda: installation._proxy_ready() and status_of(installation, "third") == 200, 20, "the repair")
        assert not reason(installation, "configuration")
        assert installation.stop(signal.SIGTERM) == 0


def reason(installation: Installation, code: str) -> str:
    answer = json.loads(installation.call("GET", f"{installation.proxy_url}/health/ready")[2])
    return next((str(each["message"]) for each in answer["reasons"] if each["code"] == code), "")


def test_sighup_reads_again_and_what_is_newly_needed_is_started(tmp_path: Path) -> None:
    params = {"model": "openai/x", "api_key": "k", "api_base": "http://127.0.0.1:9/v1"}
    direct = {"model_name": "cat", "litellm_params": params, "lane": "direct"}
    with Installation(tmp_path, {"model_list": [direct]}) as installation:
        installation.start("proxy")
        assert not installation.child_pids("demo") and not installation.child_pids("litellm")
        write(installation, {"model_list": [direct, DEMO_MODEL]})
        os.kill(installation.pid, signal.SIGHUP)
        began_s = time.monotonic()
        wait_until(lambda: status_of(installation, "demo") == 200, 15, "the demo model, by a process of its own")
        assert time.monotonic() - began_s < 15 and installation.child_pids("demo")
        assert installation.stop(signal.SIGTERM) == 0
