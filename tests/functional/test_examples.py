"""The examples as a new user runs them, on both lanes: what they print, and what is in the ledger afterwards.

Node's clients are tried where somebody installed them: `npm ci` in the example's folder, as `.ci/run` does; Claude Code
where it is on the path, or where `TEST_CLAUDE_CODE` names its program.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.house import House, model
from tests.functional.installation import DEMO_MODEL, ROOT, Installation, wait_until
from tests.functional.provider_books import FakeProvider

EXAMPLES = ROOT / "examples"
CLAUDE_CODE = os.environ.get("TEST_CLAUDE_CODE") or shutil.which("claude") or ""
HELLO = "Hello from Token Tracker! You said: "
OPENAI = ("chat", "stream", "tool", "with its result", "picture", "structured")
ANTHROPIC = ("message", "stream", "tool", "with its result", "picture")


def node(name: str, package: str) -> pytest.MarkDecorator:
    is_there = (EXAMPLES / name / "node_modules" / package).is_dir() and shutil.which("node")
    return pytest.mark.skipif(not is_there, reason=f"'npm ci' was not run in examples/{name}")


COMMANDS = [
    pytest.param("python-openai", [sys.executable, "example.py"], OPENAI, id="python-openai"),
    pytest.param("python-anthropic", [sys.executable, "example.py"], ANTHROPIC, id="python-anthropic"),
    pytest.param("node-openai", ["node", "example.mjs"], OPENAI, id="node-openai", marks=node("node-openai", "openai")),
    pytest.param(
        "node-anthropic",
        ["node", "example.mjs"],
        ANTHROPIC,
        id="node-anthropic",
        marks=node("node-anthropic", "@anthropic-ai"),
    ),
    pytest.param("langchain", [sys.executable, "example.py"], OPENAI, id="langchain"),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with FakeProvider() as provider:
        free = {"input_cost_per_token": 0.000001, "output_cost_per_token": 0.000002}
        entries = [
            DEMO_MODEL,
            model("to-openai", "openai/fake-plain", provider.openai_base, **free),
            model("to-anthropic", "anthropic/fake-plain", provider.url, **free),
        ]
        for entry in entries[1:]:
            del entry["lane"]
        with Installation(tmp_path_factory.mktemp("installation"), {"model_list": entries}) as installation:
            installation.start(timeout_s=60)
            wait_until(lambda: "LiteLLM" not in reasons(installation), 60, "start of the LiteLLM child")
            yield House(installation, provider)


def reasons(installation: Installation) -> str:
    return installation.call("GET", f"{installation.proxy_url}/health/ready")[2].decode()


def run(house: House, folder: str, command: list[str], name: str) -> dict[str, str]:
    """What the example printed, by label."""
    environment = {**os.environ, "GATEWAY": house.proxy_url, "KEY": house.key, "MODEL": name}
    done = subprocess.run(
        command, cwd=EXAMPLES / folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)


@pytest.mark.parametrize("lane", ["direct", "litellm"])
@pytest.mark.parametrize(("folder", "command", "labels"), COMMANDS)
def test_an_official_client_does_everything_on_both_lanes(
    house: House, folder: str, command: list[str], labels: tuple[str, ...], lane: str
) -> None:
    direct, translated = ("to-anthropic", "to-openai") if labels is ANTHROPIC else ("to-openai", "to-anthropic")
    name = direct if lane == "direct" else translated
    known = len(house.rows(lane=lane))
    printed = run(house, folder, command, name)
    assert tuple(printed) == labels
    assert printed[labels[0]] == HELLO + "Hello"
    assert printed["stream"] == HELLO + "Hello again"
    assert printed["tool"].startswith("weather {") and "Paris" in printed["tool"]
    assert printed["with its result"] == HELLO + "sunny"
    assert printed["picture"] == HELLO + "What is this?"
    assert printed.get("structured", "Berlin") == "Berlin"
    rows = house.wait_for_rows(known + len(labels), lane=lane)[: len(labels)]
    assert {(row["end_reason"], row["usage_source"], row["cost_source"]) for row in rows} == {
        ("complete", "provider", "priced")
    }


@pytest.mark.parametrize("folder", ["python-openai", "python-anthropic"])
def test_an_example_works_as_printed_against_the_built_in_model(house: House, folder: str) -> None:
    assert HELLO + "Hello again" in run(house, folder, [sys.executable, "example.py"], "demo").values()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_lines_for_curl_work(house: House) -> None:
    printed = run(house, "curl", ["./example.sh"], "demo")
    assert {"chat", "stream", "tool", "picture", "structured", "message"} <= printed.keys()
    assert HELLO in printed["chat"] and HELLO in printed["message"]
    assert '"name":"weather"' in printed["tool"].replace('": "', '":"')


@pytest.mark.skipif(not CLAUDE_CODE, reason="Claude Code is not installed; TEST_CLAUDE_CODE may name its program")
def test_claude_code_works_with_the_settings_as_printed(house: House, tmp_path: Path) -> None:
    settings = json.loads((EXAMPLES / "claude-code" / "settings.json").read_text())["env"]
    here = {"ANTHROPIC_BASE_URL": house.proxy_url, "ANTHROPIC_AUTH_TOKEN": house.key}
    assert settings.keys() > here.keys()
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}  # nobody but the gateway is asked
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **nowhere, **settings, **here}
    command = [CLAUDE_CODE, "--model", "demo", "-p", "Say hello"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0 and HELLO in done.stdout, done.stdout + done.stderr
    rows = wait_until(lambda: house.rows(agent="claude-code"), 10, "its rows")
    assert {(row["endpoint"], row["end_reason"], row["usage_source"]) for row in rows} == {
        ("/v1/messages", "complete", "provider")
    }


def test_every_example_says_how_to_run_it_and_the_list_says_which_were_tried() -> None:
    folders = {path.name: path for path in EXAMPLES.iterdir() if path.is_dir()}
    assert all(0 < len((path / "README.md").read_text().splitlines()) <= 16 for path in folders.values())
    rows = re.findall(r"^\| \[(.*?)\]\((.*?)\).*? \| (.*) \|$", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert {name for name, target, _ in rows if name == target} == folders.keys()
    claimed = {name for name, _, tried in rows if tried.startswith("by `tests/functional/test_examples.py`")}
    assert claimed == {str(each.values[0]) for each in COMMANDS} | {"curl", "claude-code"}
    for _, _, tried in rows:
        assert tried.startswith("no: ") or all((ROOT / path).is_file() for path in re.findall(r"`(tests/.*?)`", tried))
