"""The container files against their schema, and what they promise: closed doors, no default secret, nothing missing."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.deploy.compose import COMPOSE, ROOT, MissingError, image, image_environment, read, references, variables_of
from token_tracker.config.encryption import is_key
from token_tracker.config.environment import DEFAULTS, PREFIX

OURS = ("init", "proxy", "api", "dashboard", "worker")


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Those that deploy/make-env makes."""
    subprocess.run([ROOT / "deploy" / "make-env", tmp_path / ".env"], check=True, capture_output=True)
    return variables_of(tmp_path / ".env")


def test_the_compose_file_fulfils_the_compose_specification() -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(yaml.safe_load(COMPOSE.read_text()), json.loads(schema.read_text()))


def test_nothing_starts_without_each_secret_and_make_env_makes_them_all(variables: dict[str, str]) -> None:
    kinds = references()
    assert {name for name, kind in kinds.items() if kind != "?"} == {"PUBLISH_ON"}
    assert {name for name, kind in kinds.items() if kind == "?"} == variables.keys()
    for name in variables:
        with pytest.raises(MissingError, match=f"{name} is missing, run deploy/make-env"):
            read({other: value for other, value in variables.items() if other != name})
    assert all(service["env_file"] == [".env"] for name, service in read(variables)["services"].items() if name in OURS)


def test_secrets_are_fresh_long_private_and_kept(tmp_path: Path, variables: dict[str, str]) -> None:
    command, path = ROOT / "deploy" / "make-env", tmp_path / "another"
    subprocess.run([command, path], check=True, capture_output=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not set(variables_of(path).values()) & set(variables.values())
    for name, value in variables.items():
        assert is_key(value) if name == f"{PREFIX}ENCRYPTION_KEY" else re.fullmatch(r"[0-9a-f]{24,}", value), name
    before = path.read_text()
    refused = subprocess.run([command, path], capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "was kept" in refused.stderr and path.read_text() == before


def test_only_loopback_is_published_and_stores_not_at_all(variables: dict[str, str]) -> None:
    services = read(variables)["services"]
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports.keys() == {"proxy", "api", "dashboard", "mail", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for each in ports.values() for port in each)


def test_our_processes_have_no_rights_and_write_nowhere_but_in_their_places(variables: dict[str, str]) -> None:
    services = read(variables)["services"]
    assert {name for name, service in services.items() if service["image"] == "token-tracker"} == set(OURS)
    for name in OURS:
        service = services[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"]
        assert service["security_opt"] == ["no-new-privileges:true"] and "privileged" not in service
        writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
        assert writable == (["journal:/data"] if name == "proxy" else [])
        data = service["environment"][f"{PREFIX}DATA_DIR"]
        assert data == ("/data" if name == "proxy" else "/tmp/token-tracker")
        assert name == "init" or service["healthcheck"]["test"][0] == "CMD"
    assert image()["USER"] == ["10001:10001"]
    assert image_environment()["PYTHONDONTWRITEBYTECODE"] == "1"


def test_every_setting_exists_and_every_mounted_file_is_there(variables: dict[str, str]) -> None:
    compose = read(variables)
    for name, service in compose["services"].items():
        if name in OURS:
            settings = {*service["environment"], *image_environment(), *variables}
            assert {each for each in settings if each.startswith(PREFIX)} <= DEFAULTS.keys()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).is_dir() if source.startswith(".") else source in compose["volumes"], volume
    assert (ROOT / "config" / "proxy.yaml").is_file()


def test_prometheus_asks_every_worker_and_grafana_finds_what_it_is_given(variables: dict[str, str]) -> None:
    services = read(variables)["services"]
    proxy = services["proxy"]["environment"]
    first = proxy[f"{PREFIX}METRICS_PORT"]
    wanted = {f"proxy:{first + number}" for number in range(proxy[f"{PREFIX}PROXY_WORKERS"])}
    [job] = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert set(job["static_configs"][0]["targets"]) == wanted
    provisioning = ROOT / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((provisioning / "dashboards/token-tracker.yml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in services["grafana"]["volumes"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "deploy/grafana/dashboards" / Path(home).relative_to(folder)).is_file()


def test_the_image_gets_only_what_it_needs() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*", "secrets and data never reach an image"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert any(Path(source).is_relative_to(each) for each in allowed), source
