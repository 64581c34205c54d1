"""openapi.json against the API as it is served: requests made of the description, and every answer held to it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.functional.installation import Installation

SEED, EXAMPLES, MOST_S = 20261121, 8, 40
# It waits for the worker, which does not run here.
LEFT_OUT = "/api/alerts/test"
# What no schema can say is 422 for a request that is right by it: a cursor that this list gave out, a team that exists,
# an end that lies in the future. 412 and 429 depend on what was before. All of them are described.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 412, 414, 422, 429]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413, 414, 415, 422, 429, 431]
"""


@pytest.fixture
def served(tmp_path: Path, databases: Callable[[str], Databases], backend: str) -> Iterator[Installation]:
    """The API's process alone, on each database."""
    url = databases(backend).empty() if backend == "postgresql" else ""
    installation = Installation(tmp_path, database_url=url)
    installation.initialise()
    with installation.start("api"):
        yield installation


@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_every_answer_is_one_that_the_description_names_and_none_is_a_fault(
    served: Installation, tmp_path: Path
) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    authorization = served.login()["authorization"]
    command = [
        *(sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", "run"),
        *(f"{served.api_url}/api/openapi.json", "-H", f"Authorization: {authorization}"),
        *(f"--seed={SEED}", f"--max-examples={EXAMPLES}", f"--max-time={MOST_S}", "--phases=coverage,fuzzing"),
        *(f"--exclude-path={LEFT_OUT}", "--generation-database=none", "--no-shrink", "--no-color", "--warnings=off"),
        *("--continue-on-failure", "--workers=1"),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    said = re.sub(r"eyJ[\w.-]+", "…", run.stdout)
    print(said[said.rfind("= SUMMARY =") :])  # shown by `pytest -rP`
    assert run.returncode == 0, said[-20_000:] + run.stderr[-2000:]
    assert re.search(r"[1-9]\d{2,} generated", said), said[-2000:]
