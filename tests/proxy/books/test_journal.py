"""The journal: what was accepted is on disk, and a full disk refuses calls without losing one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.proxy.books.records_made import NODE, a_journal, an_end, an_open, largest_end, write_calls
from token_tracker.proxy.books import framing
from token_tracker.proxy.books.journal import END_EXTRA_BYTES, Journal, JournalUnavailable
from token_tracker.proxy.books.records import Awaiting, End, Record, earlier_id
from token_tracker.proxy.books.segment_reader import SegmentReader
from token_tracker.proxy.books.segments import TEMPORARY, is_locked, list_segments, remove_leftovers


def written(directory: Path) -> list[Record]:
    """All records of all segments, in order."""
    records: list[Record] = []
    for name in list_segments(directory):
        reader = SegmentReader(directory, name)
        records += [record for _, record in reader.records()]
        reader.close()
    return records


def test_records_are_readable_as_soon_as_the_call_returns(tmp_path: Path) -> None:
    journal = a_journal(tmp_path)
    first, second = an_end(an_open(1)), an_end(an_open(2, lane="litellm"))
    journal.open(first.opened)
    assert written(tmp_path) == [first.opened]
    journal.end(first)
    journal.open(second.opened)
    journal.awaiting(Awaiting(second))
    journal.end(second)
    assert written(tmp_path) == [first.opened, first, second.opened, Awaiting(second), second]
    journal.close()


def test_a_living_segment_is_locked_under_every_name_it_has_and_free_once_closed(tmp_path: Path) -> None:
    journal = a_journal(tmp_path)
    (name,) = list_segments(tmp_path)
    assert (name.node, name.incarnation) == (NODE, journal.incarnation)
    assert is_locked(name.path(tmp_path))
    assert [path.name for path in name.path(tmp_path).parent.iterdir()] == [name.path(tmp_path).name]
    journal.close()
    journal.close()
    assert not is_locked(name.path(tmp_path))


def test_what_a_killed_process_had_written_is_there(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.proxy.books.records_made import a_journal, write_calls\n"
        "journal = a_journal(Path(sys.argv[1])); write_calls(journal, range(50)); print('written', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        (name,) = list_segments(tmp_path)
        assert is_locked(name.path(tmp_path))
        child.send_signal(signal.SIGKILL)
    assert not is_locked(name.path(tmp_path))
    assert len(written(tmp_path)) == 100


def test_segments_rotate_at_their_bound_and_the_newest_stays_locked(tmp_path: Path) -> None:
    journal = a_journal(tmp_path, segment_bytes=20_000)
    ends = write_calls(journal, range(100))
    names = list_segments(tmp_path)
    assert len(names) > 2
    assert is_locked(names[-1].path(tmp_path))
    assert [record for record in written(tmp_path) if isinstance(record, End)] == ends
    journal.close()
    assert all(not is_locked(name.path(tmp_path)) for name in names)
    assert all(name.path(tmp_path).stat().st_size < 22_000 for name in names), "unused room is given back"


def test_nothing_is_written_after_the_end_of_the_journal(tmp_path: Path) -> None:
    journal = a_journal(tmp_path)
    journal.close()
    with pytest.raises(JournalUnavailable, match="closed"):
        journal.open(an_open(1))


def test_the_largest_end_that_the_gateway_builds_fits_what_is_reserved_for_it() -> None:
    end = largest_end(1)
    sizes = []
    for record in (end.opened, end, Awaiting(end)):
        buffer = bytearray()
        framing.encode_into(record, buffer)
        sizes.append(len(buffer))
    assert sizes[2] - sizes[0] <= END_EXTRA_BYTES
    assert sizes[2] < framing.MAX_RECORD_BYTES / 4


def test_each_attempt_of_a_call_has_room_of_its_own_and_gives_it_back(tmp_path: Path) -> None:
    journal, first = a_journal(tmp_path), an_open(1)
    second = structs.replace(first, attempt=2)
    journal.open(first)
    for_one = journal._owed_bytes
    journal.open(second)
    assert journal._owed_bytes == 2 * for_one
    journal.end(an_end(structs.replace(first, id=earlier_id(first.call_id, 1))))
    assert journal._owed_bytes == for_one
    journal.end(an_end(second))
    assert journal._owed_bytes == 0
    journal.close()


def test_a_directory_that_cannot_be_written_refuses_calls_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where a directory should be")
    journal = a_journal(tmp_path / "journal")
    with pytest.raises(JournalUnavailable, match="no journal segment can be made"):
        journal.open(an_open(1))
    (tmp_path / "journal").unlink()
    write_calls(journal, range(1))
    assert len(written(tmp_path / "journal")) == 2
    journal.close()


def test_leftovers_of_a_segment_that_was_never_finished_are_removed_later(tmp_path: Path) -> None:
    journal = a_journal(tmp_path)
    young, old = (tmp_path / NODE / f"{TEMPORARY}{name}" for name in ("aaaaaaaa-0", "bbbbbbbb-0"))
    young.touch()
    old.touch()
    os.utime(old, (0, 0))
    remove_leftovers(tmp_path)
    assert young.exists()
    assert not old.exists()
    assert len(list_segments(tmp_path)) == 1
    journal.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MiB of its own; skipped where mounting is not allowed."""
    mount = tmp_path / "disk"
    mount.mkdir()
    tried = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip("mounting a small file system needs root")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def fill(directory: Path) -> Path:
    """Use up the very last byte of the file system."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return ballast


def open_until_refused(journal: Journal, *, lane: str, first: int) -> list[int]:
    """Numbers of the calls that were taken."""
    taken: list[int] = []
    while len(taken) < 100_000:
        try:
            journal.open(largest_end(first + len(taken), lane=lane).opened)
        except JournalUnavailable:
            return taken
        taken.append(first + len(taken))
    raise AssertionError("a full disk refused nothing")


@pytest.mark.parametrize("reserved_by", ["posix_fallocate", "zeros"])
@pytest.mark.parametrize("lane", ["direct", "litellm"])
@pytest.mark.parametrize("segment_bytes", [64_000, 32 * 1024 * 1024])
def test_a_full_disk_refuses_new_calls_and_keeps_the_ends_of_all_that_are_open(
    small_disk: Path, segment_bytes: int, lane: str, reserved_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reserved_by == "zeros":
        monkeypatch.delattr(os, "posix_fallocate")
    journal = a_journal(small_disk, segment_bytes=segment_bytes)
    taken = open_until_refused(journal, lane=lane, first=0)
    fill(small_disk)
    assert len(taken) > 10
    assert open_until_refused(journal, lane=lane, first=5_000) == []
    if lane == "litellm":
        for number in taken:
            journal.awaiting(Awaiting(largest_end(number, lane=lane)))
    for number in taken:
        journal.end(largest_end(number, lane=lane))
    ended = [record.opened.id for record in written(small_disk) if isinstance(record, End)]
    assert ended == [f"{number:032x}" for number in taken]
    journal.close()


def test_a_journal_that_starts_on_a_full_disk_takes_calls_once_there_is_room(small_disk: Path) -> None:
    ballast = fill(small_disk)
    journal = a_journal(small_disk)
    with pytest.raises(JournalUnavailable):
        journal.open(an_open(1))
    ballast.unlink()
    write_calls(journal, range(2))
    assert len(written(small_disk)) == 4
    journal.close()


def test_a_row_that_was_never_open_is_kept_until_the_disk_is_full_and_takes_no_room_of_open_calls(
    tmp_path: Path,
) -> None:
    journal = a_journal(tmp_path)
    opened = an_open(1)
    journal.open(opened)
    elsewhere = an_end(an_open(2, lane="ingest"))
    journal.book(elsewhere)
    journal.end(an_end(opened))
    assert written(tmp_path) == [opened, elsewhere, an_end(opened)]
    journal.close()
    with pytest.raises(JournalUnavailable):
        journal.book(elsewhere)
