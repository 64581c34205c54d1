"""What is encrypted under one key is read with several, and moved to the first."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from tests.config.files import Files
from token_tracker.config import paths
from token_tracker.config.encryption import CannotDecrypt, Keyring, is_key, make_key
from token_tracker.config.problems import ConfigurationError

SECRET = "sk-a-key-of-a-provider"


def test_a_key_can_be_rotated_out_after_what_stood_under_it_was_moved() -> None:
    old, new = make_key(), make_key()
    sealed = Keyring([old]).encrypt(SECRET)
    assert SECRET not in sealed
    both = Keyring([new, old])
    assert both.decrypt(sealed) == SECRET
    moved = both.renewed(sealed)
    assert Keyring([new]).decrypt(moved) == SECRET
    assert both.renewed(moved) == moved, "what stands under the first key stays as it is"
    with pytest.raises(CannotDecrypt):
        Keyring([old]).decrypt(moved)


@pytest.mark.parametrize("sealed", ["", "nothing of ours", "gAAAAA=="])
def test_what_no_key_opens_is_said_and_not_answered(sealed: str) -> None:
    for keyring, said in ((Keyring([make_key()]), "none of the keys"), (Keyring(), "generate_key")):
        with pytest.raises(CannotDecrypt, match=said):
            keyring.decrypt(sealed)


def test_keys_are_those_that_fernet_takes() -> None:
    assert is_key(make_key()) and is_key(Fernet.generate_key().decode())
    assert Fernet(make_key())
    for wrong in ("", "x", "k" * 32, make_key()[:-2], make_key() + "A", "é" * 44):
        assert not is_key(wrong)


def test_the_setting_holds_several_and_a_wrong_one_is_named_by_its_place(files: Files) -> None:
    first, second = make_key(), make_key()
    settings = files.load(TOKEN_TRACKER_ENCRYPTION_KEY=f"{first}, {second}").settings
    assert paths.encryption_keys(settings) == (first, second)
    assert first not in repr(settings)
    [problem] = files.problems(TOKEN_TRACKER_ENCRYPTION_KEY=f"{first},hunter2")
    assert "at place 2" in problem and "generate_key" in problem and "hunter2" not in problem


def test_without_the_setting_one_is_kept_beside_the_sqlite_file_and_nowhere_else(files: Files) -> None:
    settings = files.load().settings
    [made] = paths.encryption_keys(settings)
    assert is_key(made) and paths.encryption_keys(settings) == (made,)
    assert (settings.data_dir / "encryption_key").stat().st_mode & 0o077 == 0
    (settings.data_dir / "encryption_key").write_text("of somebody else")
    with pytest.raises(ConfigurationError, match="restore it"):
        paths.encryption_keys(settings)
    elsewhere = files.load(DATABASE_URL="postgresql://h/d").settings
    assert paths.encryption_keys(elsewhere) == ()
