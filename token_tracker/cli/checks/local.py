"""What lies on this machine: the configuration, the data directory, who may read it, the disk, the journal."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from token_tracker.cli.checks.findings import Finding, Ground, ok, problem, skipped, warning
from token_tracker.cli.shown import counted
from token_tracker.config import paths
from token_tracker.config.load import ConfigurationError, load, load_settings
from token_tracker.config.values import Configuration, Settings
from token_tracker.database.session import reading
from token_tracker.services import journal_offsets

DISK_LOW_BYTES, DISK_FULL_BYTES = 2 * 1024**3, 256 * 1024**2  # a segment of the journal has 32 MiB
WAITING_BYTES = 32 * 1024**2  # some 50,000 calls
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MIB = 1024**2


def configuration() -> tuple[list[Finding], Settings | None, Configuration | None]:
    """What can be read of it, and what is wrong."""
    name = "configuration"
    try:
        found = load()
    except ConfigurationError as error:
        findings = [problem(name, each, "correct it, then run doctor again") for each in error.problems]
        try:
            return findings, load_settings(), None
        except ConfigurationError:
            return findings, None, None
    findings = [warning(name, each, f"see {found.settings.config_path}") for each in found.warnings]
    for model, why in found.off:
        findings.append(warning(name, f"the model '{model}' is switched off: {why}", "set it, or remove the entry"))
    if not found.deployments:
        findings.append(
            warning(name, "no model is offered", "set a provider's key, such as OPENAI_API_KEY, or write a model_list")
        )
    return (
        findings or [ok(name, f"{found.settings.config_path}, {counted(len(found.deployments), 'model')}")],
        found.settings,
        found,
    )


def data_directory(ground: Ground) -> Iterator[Finding]:
    name, path = "data directory", ground.settings.data_dir
    if not path.is_dir():
        yield problem(name, f"{path} does not exist", "token-tracker init, or correct TOKEN_TRACKER_DATA_DIR")
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield problem(name, f"{path} cannot be written by this account", f"chown -R $(id -un) {path}")
    else:
        yield ok(name, str(path))


def file_modes(ground: Ground) -> Iterator[Finding]:
    """Whether others on this machine may read secrets and books."""
    name, settings = "file modes", ground.settings
    if not settings.data_dir.is_dir():
        yield skipped(name, "there is no data directory yet")
        return
    private = [each for each in settings.data_dir.iterdir() if each.is_file() and not each.is_symlink()]
    keys = [tls.key for tls in (settings.proxy.tls, settings.api.tls, settings.dashboard.tls) if tls is not None]
    loose = [
        each for each in (settings.data_dir, *private, Path.cwd() / ".env", *dict.fromkeys(keys)) if _is_loose(each)
    ]
    for each in loose:
        mode = "700" if each.is_dir() else "600"
        found = stat.S_IMODE(each.stat().st_mode)
        yield problem(name, f"others on this machine may read {each} (mode {found:03o})", f"chmod {mode} {each}")
    if not loose:
        yield ok(name, "only this account reads secrets and books")


def _is_loose(path: Path) -> bool:
    """A directory that others may pass but not list is none: its files have modes of their own."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return bool(mode & (_OTHERS & ~(stat.S_IXGRP | stat.S_IXOTH) if stat.S_ISDIR(mode) else _OTHERS))


def disk(ground: Ground) -> Iterator[Finding]:
    name, path = "disk", ground.settings.data_dir
    if not path.is_dir():
        yield skipped(name, "there is no data directory yet")
        return
    free = shutil.disk_usage(path).free
    nodes = os.statvfs(path)
    said = f"{free / 1024**3:.1f} GiB free at {path}"
    remedy = f"make room at {path}, or move it and set TOKEN_TRACKER_DATA_DIR"
    if free < DISK_FULL_BYTES or (nodes.f_files and not nodes.f_favail):
        what = said if free < DISK_FULL_BYTES else f"no file can be made at {path}: it has no inode left"
        yield problem(name, f"{what}: when it is full, calls are refused with 503", remedy)
    elif free < DISK_LOW_BYTES:
        yield warning(name, said, remedy)
    else:
        yield ok(name, said)


def journal(ground: Ground) -> Iterator[Finding]:
    """Calls that are not in the ledger yet. A gateway's open segment has up to 1 MiB of room for more at its end."""
    name, directory = "journal", paths.journal_dir(ground.settings)
    sizes = dict(_segments(directory))
    booked: dict[str, int] = {}
    if ground.engine is not None:
        with reading(ground.engine) as session:
            booked = journal_offsets.load(session)
    waiting = sum(max(0, size - booked.get(segment, 0)) for segment, size in sizes.items())
    said = f"{counted(len(sizes), 'segment')}, at most {waiting / _MIB:.1f} MiB of calls not booked yet"
    if waiting > WAITING_BYTES:
        remedy = "token-tracker proxy (or all): its recorder books them; what it says tells why it has not"
        yield warning(name, f"{said}: these calls are in no report and no budget of the database", remedy)
    else:
        yield ok(name, f"{said} (room for more is counted, too)" if sizes else "empty")


def _segments(directory: Path) -> Iterator[tuple[str, int]]:
    """Name and size in bytes of each '<node>/<incarnation>-<n>'."""
    for path in directory.glob("*/*-*"):
        try:
            if path.is_file() and not path.name.startswith("."):
                yield f"{path.parent.name}/{path.name}", path.stat().st_size
        except FileNotFoundError:  # booked meanwhile
            continue
