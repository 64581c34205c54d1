"""Commands on an installation that runs: what they change acts, what they show is what the API shows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.command_line import must, typed
from tests.functional.installation import DEMO_MODEL, Installation, wait_until

ESCAPE = "agent\x1b[2J\x07"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """`run all` on SQLite with the demo model."""
    with Installation(tmp_path_factory.mktemp("cli"), {"model_list": [DEMO_MODEL]}) as installation:
        yield installation.start()


def chat(house: Installation, key: str, **headers: str) -> int:
    body = {"model": "demo", "messages": [{"role": "user", "content": "One two three"}], "max_tokens": 20}
    sent = {"authorization": f"Bearer {key}", **headers}
    return house.call("POST", f"{house.proxy_url}/v1/chat/completions", body, sent)[0]


def becomes(house: Installation, key: str, status: int) -> None:
    wait_until(lambda: chat(house, key) == status, 10, f"an answer with {status}")


def from_api(house: Installation, path: str) -> Any:
    status, _, body = house.call("GET", f"{house.api_url}/api/{path}", headers=house.login())
    assert status == 200, body
    return json.loads(body)


def test_a_key_works_is_rotated_and_is_disabled(house: Installation) -> None:
    first = must(house, "keys", "create", "ci", "--agent", "ci").out.strip()
    becomes(house, first, 200)
    (found,) = [key for key in must(house, "keys", "list", "--json").json if key["name"] == "ci"]
    assert first.startswith(found["prefix"])
    rotated = must(house, "keys", "rotate", found["id"], "--json").json
    becomes(house, rotated["key"], 200)
    becomes(house, first, 401)
    must(house, "keys", "disable", rotated["id"])
    becomes(house, rotated["key"], 401)
    assert "ci" not in [key["name"] for key in must(house, "keys", "list", "--json").json]
    again = typed(house, "keys", "change", rotated["id"], "--name", "new")
    assert again.code == 1 and "revoked for good" in again.err
    entries = from_api(house, f"audit-log?object_id={rotated['id']}")["items"]
    assert [(entry["action"], entry["actor"]) for entry in entries] == [("key.revoke", "command line")]


def test_a_disabled_account_is_out_and_a_new_password_lets_it_in(house: Installation) -> None:
    must(house, "teams", "create", "core", "--name", "The core")
    password = must(house, "users", "create", "ana", "--team", "core", "--role", "manager").out.strip()
    house.login("ana", password)
    must(house, "users", "disable", "ana")
    with pytest.raises(AssertionError, match="invalid_credentials"):
        house.login("ana", password)
    must(house, "users", "enable", "ana")
    must(house, "users", "password", "ana", "--password-stdin", stdin="another password\n")
    house.login("ana", "another password")
    assert typed(house, "users", "change", "admin", "--role", "viewer").code == 1, "nobody could administer"
    assert {user["id"]: user["team"] for user in must(house, "users", "list", "--json").json}["ana"] == "core"


def test_budgets_and_limits_act_and_go(house: Installation) -> None:
    key = must(house, "keys", "create", "capped", "--json").json
    becomes(house, key["key"], 200)
    scope = f"key:{key['id']}"
    budget = must(house, "budgets", "set", scope, "daily", "0.000000001", "--alert", "50=a@tt.example", "--json").json
    becomes(house, key["key"], 402)
    (shown,) = [each for each in must(house, "budgets", "list", "--json").json if each["id"] == budget["id"]]
    assert (shown["limit_usd"], shown["alerts"]) == ("0.000000001", ["50 a@tt.example"])
    status = from_api(house, f"budgets/{budget['id']}/status")
    assert {name: shown[name] for name in ("spent_usd", "held_usd", "remaining_usd", "window")} == {
        name: status[name] for name in ("spent_usd", "held_usd", "remaining_usd", "window")
    }
    assert budget["id"] in must(house, "budgets", "list").out
    must(house, "budgets", "top-up", budget["id"], "5")
    becomes(house, key["key"], 200)
    must(house, "budgets", "delete", budget["id"])
    limit = must(house, "limits", "set", scope, "0/minute", "--json").json
    becomes(house, key["key"], 429)
    must(house, "limits", "delete", limit["id"])
    becomes(house, key["key"], 200)
    for wrong in ("teem:x", "team:nobody", "team"):
        said = typed(house, "budgets", "set", wrong, "daily", "1")
        assert said.code == 1 and "Nothing was changed" in said.err


def test_reports_and_exports_are_those_of_the_api(house: Installation, tmp_path: Path) -> None:
    key = must(house, "keys", "create", "reported").out.strip()
    becomes(house, key, 200)
    assert chat(house, key, **{"x-tt-agent": "=HYPERLINK(1)"}) == 200
    wait_until(lambda: "=HYPERLINK(1)" in {each["agent"] for each in from_api(house, "token-usage")["items"]}, 10, "it")
    for groups in (("day",), ("model", "agent"), ("user",)):
        words = [word for group in groups for word in ("--by", group)]
        report = must(house, "report", *words, "--since", "2d", "--json").json
        summary = from_api(house, f"token-usage/summary?group_by={','.join(groups)}")
        assert report == summary
    table = must(house, "report", "--by", "agent", "--top", "1").out.splitlines()
    assert table[0].split() == ["agent", "calls", "errors", "input", "output", "p95", "ms", "USD"]
    assert "█" in table[1] and "others" in table[2]
    assert f"{report['totals']['calls']:,}" in table[-1].split()
    by_key = must(house, "report", "--by", "key").out.splitlines()
    assert any(line.startswith("reported (key_") for line in by_key), "keys are shown by their names"
    assert "'=HYPERLINK(1)," in must(house, "report", "--by", "agent", "--csv").out
    path = house.directory / "calls.csv"
    must(house, "export", str(path))
    status, _, body = house.call("GET", f"{house.api_url}/api/token-usage?format=csv", headers=house.login())
    assert status == 200
    assert path.read_bytes() == body
    assert typed(house, "export", str(path)).code == 2, "it is there already"
    one = must(house, "export", "--agent", "=HYPERLINK(1)", "--format", "jsonl").out
    assert [json.loads(line)["agent"] for line in one.splitlines()] == ["=HYPERLINK(1)"]
    assert typed(house, "report", "--since", "yesterday").code == 2


def test_a_call_shows_as_it_is_made_and_no_name_moves_the_cursor(house: Installation) -> None:
    pinned = must(house, "keys", "create", "live", "--agent", "seen").out.strip()
    becomes(house, pinned, 200)
    refused = typed(house, "keys", "create", "x", "--agent", ESCAPE)
    assert refused.code == 1
    following = subprocess.Popen(
        [sys.executable, "-m", "token_tracker.run", "tail", "-n", "0", "--agent", "seen"],
        env=house.environment | {"PYTHONUNBUFFERED": "1"},
        cwd=house.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    try:
        assert following.stdout.readline().split()[:3] == ["time", "model", "user"]
        made = 0
        while not (line := _line_within(following, 1.0)):  # it may not follow yet
            assert chat(house, pinned) == 200
            made += 1
            assert made < 20
        assert " echo " in line and " seen " in line and " 200 " in line
    finally:
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=10)
    assert following.returncode == 130 and "Traceback" not in said


def _line_within(process: subprocess.Popen[str], timeout_s: float) -> str:
    import select

    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], timeout_s)
    return process.stdout.readline() if readable else ""


def test_a_price_is_shown_set_imported_after_a_look_and_ended(house: Installation) -> None:
    assert typed(house, "prices", "show", "brand-new").code == 1
    made = must(house, "prices", "set", "brand-new", "--input", "2.50", "--output", "10", "--json").json
    assert made["rates"] == {"input_cost_per_token": "0.0000025", "output_cost_per_token": "0.00001"}
    assert "2.5/M" in must(house, "prices", "show", "brand-new").out
    must(house, "prices", "end", str(made["id"]))
    assert from_api(house, "prices?name=brand-new")["items"][0]["rates"] is None
    file = house.directory / "prices.json"
    file.write_text(json.dumps({"gpt-9": {"input_cost_per_token": 0.000001, "output_cost_per_token": 0.000002}}))
    looked = must(house, "prices", "import", str(file))
    assert "gpt-9" in looked.out and "1 added" in looked.err and "--apply" in looked.err
    assert must(house, "prices", "show", "gpt-4o").code == 0, "what the file lacks keeps its price"
    assert typed(house, "prices", "show", "gpt-9").code == 1, "it was only looked at"
    assert must(house, "prices", "import", str(file), "--apply", "--json").json["added"] == 1
    assert "1/M" in must(house, "prices", "show", "gpt-9").out
    assert must(house, "prices", "import", str(file)).err.startswith("0 added, 0 changed, 1 unchanged")


def test_nothing_is_made_where_there_is_no_installation(tmp_path: Path) -> None:
    nowhere = Installation(tmp_path)
    nowhere.data_dir.mkdir()
    for words in (("keys", "list"), ("report",), ("backup",), ("tail", "--no-follow")):
        said = typed(nowhere, *words)
        assert said.code == 3 and "token-tracker init" in said.err and "Traceback" not in said.err
    assert list(nowhere.data_dir.iterdir()) == []
    assert typed(nowhere, "bogus").code == 2
    assert typed(nowhere, "keys", "list", TOKEN_TRACKER_DATA_DRI="x").code == 2
