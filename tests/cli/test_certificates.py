"""What `doctor` says of the certificates that are served with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.functional.test_tls import certificate
from token_tracker.cli.checks.certificates import certificates
from token_tracker.cli.checks.findings import Finding, Ground, Status
from token_tracker.config.values import Address, Secret, Settings, Tls

NOW = datetime.now(UTC)
HERE = Address("127.0.0.1", 0)
PLAIN = Settings(Path("x"), Path("x"), Secret(""), HERE, HERE, HERE, None, None, 1, 1, None)


def found(*pairs: Tls | None, at: datetime = NOW) -> list[Finding]:
    proxy, api, dashboard = (replace(HERE, tls=pair) for pair in pairs)
    settings = replace(PLAIN, proxy=proxy, api=api, dashboard=dashboard)
    return list(certificates(Ground(settings, None, None, at)))


def test_without_tls_there_is_nothing_to_look_at() -> None:
    assert [each.status for each in found(None, None, None)] == [Status.SKIPPED]


def test_a_certificate_is_judged_by_its_days(tmp_path: Path) -> None:
    pair = Tls(*certificate(tmp_path))  # for a day, from an hour ago on
    moments = {-2: Status.PROBLEM, 0: Status.WARNING, 25: Status.PROBLEM}
    for hours, status in moments.items():
        (one,) = found(pair, pair, None, at=NOW + timedelta(hours=hours))
        assert (one.check, one.status) == ("tls", status) and "cert.pem" in one.message
    (soon,) = found(pair, None, None, at=NOW + timedelta(hours=1))
    assert "0 days from now" in soon.message


def test_a_key_of_another_certificate_and_one_that_is_gone_are_problems(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    mine, other = certificate(tmp_path / "mine"), certificate(tmp_path / "other")
    first, second = found(Tls(mine[0], other[1]), Tls(mine[0], tmp_path / "gone.pem"), None)
    assert first.status is second.status is Status.PROBLEM
    assert "is not the key of" in first.message and "cannot be read" in second.message
