"""Where things lie in the data directory, and the small secrets that are made once and kept there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from token_tracker.config.encryption import is_key, make_key
from token_tracker.config.problems import ConfigurationError
from token_tracker.config.values import Settings

# sockaddr_un holds 104 bytes on some systems, and a socket's own name is up to 20.
SOCKET_PATH_BYTES = 100
_LONGEST_SOCKET_NAME = len("/0123abcd.sock")


def journal_dir(settings: Settings) -> Path:
    return settings.data_dir / "journal"


def snapshot_path(settings: Settings) -> Path:
    return settings.data_dir / "snapshot"


def counters_path(settings: Settings) -> Path:
    return settings.data_dir / "counters"


def prepare_data_dir(settings: Settings) -> None:
    """Make the data directory (mode 0700) if it is missing. Raises ConfigurationError if nothing can be written."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            pass
    except OSError as error:
        raise ConfigurationError(
            [
                f"The data directory {settings.data_dir} cannot be written ({error.strerror}): "
                "change its owner, or name another one in TOKEN_TRACKER_DATA_DIR."
            ]
        ) from None


def runtime_dir(settings: Settings) -> Path:
    """A private directory (mode 0700) for Unix sockets: in the data directory, or, where their paths would be too
    long for the system, one of our own under its temporary directory."""
    path = settings.data_dir / "run"
    if len(os.fsencode(path)) + _LONGEST_SOCKET_NAME > SOCKET_PATH_BYTES:
        digest = hashlib.sha256(os.fsencode(settings.data_dir)).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"token-tracker-{os.getuid()}-{digest}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or path.is_symlink():
        raise ConfigurationError([f"{path} belongs to somebody else: remove it, or shorten TOKEN_TRACKER_DATA_DIR."])
    path.chmod(0o700)
    return path


def kept_config_path(settings: Settings) -> Path:
    """The last proxy.yaml that could be used: what a gateway that dies starts again with while the file is wrong."""
    return runtime_dir(settings) / "proxy.yaml"


def keep_config(settings: Settings) -> None:
    """Keep proxy.yaml as it now stands, readable by its owner alone. Raises OSError."""
    path = kept_config_path(settings)
    fresh = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        file.write(settings.config_path.read_bytes())
    fresh.replace(path)


def secret_key(settings: Settings) -> bytes:
    """What signs tokens: the setting, else 256 random bits made once and kept in the data directory."""
    if settings.secret_key is not None:
        return settings.secret_key.value.encode()
    return _kept(settings, "secret_key", lambda: secrets.token_hex(32)).encode()


def webhook_secret(settings: Settings) -> bytes:
    """What signs generic webhooks: the setting, else 256 random bits made once and kept in the data directory."""
    if settings.webhook_secret is not None:
        return settings.webhook_secret.value.encode()
    return _kept(settings, "webhook_secret", lambda: secrets.token_hex(32)).encode()


def encryption_keys(settings: Settings) -> tuple[str, ...]:
    """What providers' keys are encrypted under: the setting, else one made once and kept in the data directory, beside
    the SQLite file whose lifetime it shares. Empty with any other database: processes need not share a directory.
    Raises ConfigurationError."""
    if settings.encryption_keys:
        return tuple(key.value for key in settings.encryption_keys)
    if not settings.database_url.value.startswith("sqlite"):
        return ()
    key = _kept(settings, "encryption_key", make_key)
    if not is_key(key):
        raise ConfigurationError([f"{settings.data_dir / 'encryption_key'} holds no key; restore it from a backup."])
    return (key,)


def node_id(settings: Settings) -> str:
    """Eight hex digits that name this data directory in journal segments."""
    return _kept(settings, "node_id", lambda: secrets.token_hex(4))


def _kept(settings: Settings, name: str, make: Callable[[], str]) -> str:
    """The content of a private file, made once however many processes ask at the same time."""
    path = settings.data_dir / name
    prepare_data_dir(settings)
    with _locked(settings.data_dir):
        if path.exists() and (text := path.read_text(encoding="ascii").strip()):
            return text
        text = make()
        fresh = path.with_name(f".{name}.new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        return text


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
