"""`doctor`: looks at everything that an installation stands on, and says what is wrong and what to type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import click

from token_tracker.cli.checks import certificates, local, outside, prices, processes, stores
from token_tracker.cli.checks.findings import Finding, Ground, Status, problem, skipped
from token_tracker.cli.shown import counted

CHECKS: tuple[tuple[str, Callable[[Ground], Iterator[Finding]]], ...] = (
    ("data directory", local.data_directory),
    ("file modes", local.file_modes),
    ("disk", local.disk),
    ("tls", certificates.certificates),
    ("journal", local.journal),
    ("clocks", stores.local_clock),
    ("redis", stores.store),
    ("prices", prices.prices),
    ("smtp", outside.mail),
    ("credentials", outside.credentials),
    ("upstreams", outside.upstreams),
    ("processes", processes.processes),
)
_COLOURS = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "red", Status.SKIPPED: "bright_black"}


def examine(at: datetime) -> Iterator[Finding]:
    """All findings, in order; what a check stumbles over is a finding, too."""
    found, settings, configuration = local.configuration()
    yield from found
    if settings is None:
        yield skipped("all others", "the settings cannot be read")
        return
    found, engine = stores.database(settings)
    yield from found
    ground = Ground(settings, configuration, engine, at)
    for name, check in CHECKS:
        try:
            yield from check(ground)
        except Exception as error:
            yield problem(name, f"could not be looked at: {type(error).__name__}: {error}", "report this, please")
    if engine is not None:
        engine.dispose()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Answer with JSON: {healthy, findings: [{check, status, …}]}.")
def doctor(as_json: bool) -> int:
    """Check everything this installation stands on; say what is wrong and what to type.

    Sends no mail, calls no model, changes nothing. Exit code 0: no problem (there may be warnings); 1: a problem.
    """
    findings = []
    for finding in examine(datetime.now(UTC)):
        findings.append(finding)
        if not as_json:
            _show(finding)
    problems = [each for each in findings if each.status is Status.PROBLEM]
    warnings = [each for each in findings if each.status is Status.WARNING]
    if as_json:
        click.echo(json.dumps({"healthy": not problems, "findings": [asdict(each) for each in findings]}, indent=2))
    else:
        click.echo(f"\n{counted(len(problems), 'problem')}, {counted(len(warnings), 'warning')}.")
    return 1 if problems else 0


def _show(finding: Finding) -> None:
    status = click.style(f"{finding.status:<8}", fg=_COLOURS[finding.status])
    click.echo(f"{status} {finding.check:<15} {finding.message}")
    if finding.remedy:
        click.echo(f"{'':24} → {finding.remedy}")
