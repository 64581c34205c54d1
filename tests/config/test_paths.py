"""What is kept in the data directory, and who may read it."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.config.files import Files
from token_tracker.config import paths
from token_tracker.config.problems import ConfigurationError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_generated_secret_key_is_kept_and_private(files: Files) -> None:
    settings = files.load().settings
    key = paths.secret_key(settings)
    assert len(key) == 64
    assert paths.secret_key(settings) == key
    assert mode(settings.data_dir / "secret_key") == 0o600
    assert mode(settings.data_dir) == 0o700


def test_a_secret_key_of_ones_own_is_used_and_not_kept(files: Files) -> None:
    settings = files.load(TOKEN_TRACKER_SECRET_KEY="k" * 32).settings
    assert paths.secret_key(settings) == b"k" * 32
    assert not settings.data_dir.exists()


def test_processes_that_start_together_agree_on_the_node(files: Files) -> None:
    settings = files.load().settings
    with ThreadPoolExecutor(16) as pool:
        nodes = set(pool.map(lambda _: paths.node_id(settings), range(64)))
    assert len(nodes) == 1
    assert len(bytes.fromhex(nodes.pop())) == 4


def test_an_empty_secret_file_is_made_anew(files: Files) -> None:
    settings = files.load().settings
    settings.data_dir.mkdir()
    (settings.data_dir / "secret_key").touch()
    assert len(paths.secret_key(settings)) == 64


def test_sockets_lie_in_the_data_directory(files: Files) -> None:
    with TemporaryDirectory() as short:
        settings = files.load(TOKEN_TRACKER_DATA_DIR=short).settings
        assert paths.runtime_dir(settings) == Path(short) / "run"
        assert mode(Path(short) / "run") == 0o700


def test_a_data_directory_with_a_long_name_has_its_sockets_elsewhere_and_always_there(files: Files) -> None:
    settings = files.load(TOKEN_TRACKER_DATA_DIR="d" * 120).settings
    directory = paths.runtime_dir(settings)
    try:
        assert len(str(directory / "0123abcd.sock")) <= paths.SOCKET_PATH_BYTES
        assert mode(directory) == 0o700
        assert paths.runtime_dir(settings) == directory
        assert paths.runtime_dir(files.load(TOKEN_TRACKER_DATA_DIR="e" * 120).settings) != directory
    finally:
        for made in ("d", "e"):
            paths.runtime_dir(files.load(TOKEN_TRACKER_DATA_DIR=made * 120).settings).rmdir()


def test_a_data_directory_that_cannot_be_written_names_the_setting(files: Files) -> None:
    (files.directory / "taken").write_text("a file")
    with pytest.raises(ConfigurationError, match="TOKEN_TRACKER_DATA_DIR"):
        paths.prepare_data_dir(files.load(TOKEN_TRACKER_DATA_DIR="taken").settings)
