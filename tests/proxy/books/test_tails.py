"""What the recorder is told to book: of living workers and of dead ones, whatever their segments end in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.proxy.books.records_made import NODE, a_journal, an_end, an_open, write_calls
from token_tracker.proxy.books import framing
from token_tracker.proxy.books.records import Awaiting, End, earlier_id
from token_tracker.proxy.books.segment_reader import KEPT_AS
from token_tracker.proxy.books.segments import list_segments, remove_leftovers
from token_tracker.proxy.books.tails import CLOSED, Tails


def taken(tails: Tails, limit: int = 500) -> list[End]:
    """Look, take, and say that it is booked, until there is no more."""
    found: list[End] = []
    while True:
        tails.look()
        batch = tails.next_batch(limit)
        assert len(batch.ends) <= limit
        tails.booked()
        if not batch.ends:
            return found
        found += batch.ends


def outcomes(ends: list[End]) -> list[tuple[int, str]]:
    return sorted((int(end.opened.id, 16), end.end_reason) for end in ends)


def test_ends_come_once_in_batches_and_open_calls_of_the_living_do_not(tmp_path: Path) -> None:
    journal, tails = a_journal(tmp_path), Tails(tmp_path, {})
    journal.open(an_open(900))
    assert taken(tails) == []
    ends = write_calls(journal, range(1_001))
    assert taken(tails, limit=400) == ends
    assert taken(tails) == []
    assert tails.unbooked_bytes() == 0
    more = write_calls(journal, range(2_000, 2_003))
    assert tails.unbooked_bytes() > 0
    assert taken(tails) == more
    tails.close()
    journal.close()


def test_calls_that_a_dead_worker_left_open_are_crashes_of_unknown_cost(tmp_path: Path) -> None:
    journal, tails = a_journal(tmp_path), Tails(tmp_path, {})
    ends = write_calls(journal, range(2))
    journal.open(an_open(7))
    assert taken(tails) == ends
    journal.close()
    (crash,) = taken(tails)
    assert crash.opened == an_open(7)
    assert (crash.end_reason, crash.status_code, crash.usage_source) == ("crash", 0, "none")
    assert (crash.cost_nano_usd, crash.cost_source, sum(crash.tokens)) == (None, "unpriced", 0)
    assert list_segments(tmp_path) == []
    assert taken(tails) == []


def test_a_worker_that_dies_between_the_attempts_of_a_call_leaves_each_of_them_one_row(tmp_path: Path) -> None:
    journal, tails = a_journal(tmp_path), Tails(tmp_path, {})
    first = an_open(7)
    second = structs.replace(first, attempt=2)
    journal.open(first)
    journal.open(second)
    journal.close()
    crashes = taken(tails, limit=1)
    assert [(end.opened.attempt, end.opened.id) for end in crashes] == [
        (1, earlier_id(first.call_id, 1)),
        (2, first.call_id),
    ]
    assert {(end.end_reason, end.opened.call_id) for end in crashes} == {("crash", first.call_id)}


def test_an_earlier_attempt_is_ended_under_its_own_id_and_only_the_last_can_crash(tmp_path: Path) -> None:
    journal, tails = a_journal(tmp_path), Tails(tmp_path, {})
    first = an_open(7)
    journal.open(first)
    journal.open(structs.replace(first, attempt=2))
    failed = an_end(structs.replace(first, id=earlier_id(first.call_id, 1)))
    journal.end(failed)
    assert taken(tails) == [failed]
    journal.close()
    (crash,) = taken(tails)
    assert (crash.opened.id, crash.opened.attempt, crash.end_reason) == (first.call_id, 2, "crash")


def test_awaited_evidence_is_waited_for_while_its_worker_lives(tmp_path: Path) -> None:
    journal, tails = a_journal(tmp_path), Tails(tmp_path, {})
    preliminary = [an_end(an_open(number, lane="litellm"), cost_nano_usd=None) for number in (1, 2)]
    for end in preliminary:
        journal.open(end.opened)
        journal.awaiting(Awaiting(end))
    assert taken(tails) == []
    completed = structs.replace(preliminary[0], cost_nano_usd=77, cost_source="litellm")
    journal.end(completed)
    assert taken(tails) == [completed]
    journal.close()
    assert taken(tails) == [preliminary[1]], "the row stands as it was when its worker ended"


def test_a_restarted_recorder_goes_on_where_it_had_committed_and_knows_what_is_open(tmp_path: Path) -> None:
    journal, first = a_journal(tmp_path), Tails(tmp_path, {})
    journal.open(an_open(50))
    write_calls(journal, range(10))
    first.look()
    batch = first.next_batch(4)
    first.close()
    second = Tails(tmp_path, batch.offsets)
    assert [int(end.opened.id, 16) for end in taken(second)] == [4, 5, 6, 7, 8, 9]
    journal.close()
    assert outcomes(taken(second)) == [(50, "crash")]


def test_a_segment_whose_last_rows_were_committed_is_only_deleted_after_a_restart(tmp_path: Path) -> None:
    journal, first = a_journal(tmp_path), Tails(tmp_path, {})
    journal.open(an_open(1))
    journal.close()
    first.look()
    batch = first.next_batch(500)
    assert outcomes(batch.ends) == [(1, "crash")]
    first.close()  # killed after the commit, before the deletion
    assert list(batch.offsets.values()) == [CLOSED]
    assert taken(Tails(tmp_path, batch.offsets)) == []
    assert list_segments(tmp_path) == []


def test_segments_of_the_living_go_once_booked_but_not_while_a_call_opened_in_them_runs(tmp_path: Path) -> None:
    journal, tails = a_journal(tmp_path, segment_bytes=10_000), Tails(tmp_path, {})
    write_calls(journal, range(60))
    assert list_segments(tmp_path)[-1].number > 1
    assert len(taken(tails)) == 60
    held_in = list_segments(tmp_path)
    assert len(held_in) == 1, "all but the one in use are gone"
    journal.open(an_open(999))
    assert len(taken(tails) + write_calls(journal, range(100, 160)) + taken(tails)) == 120
    assert list_segments(tmp_path)[0] == held_in[0]
    assert len(list_segments(tmp_path)) > 2
    journal.end(an_end(an_open(999)))
    assert len(taken(tails)) == 1
    assert len(list_segments(tmp_path)) == 1
    journal.close()
    assert taken(tails) == []
    assert list_segments(tmp_path) == []


def test_a_worker_that_just_went_on_to_its_next_segment_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old segment is let go between the recorder's listing and its look at the lock."""
    journal, tails = a_journal(tmp_path, segment_bytes=1_000), Tails(tmp_path, {})
    write_calls(journal, range(2))
    tails.look()
    import token_tracker.proxy.books.tails as module

    look_at_lock = module.is_locked

    def rotate_first(path: Path) -> bool:
        number = list_segments(tmp_path)[-1].number
        write_calls(journal, range(number * 100, number * 100 + 6))
        assert list_segments(tmp_path)[-1].number > number
        journal._sync()  # lets go of what was rotated away
        return look_at_lock(path)

    monkeypatch.setattr(module, "is_locked", rotate_first)
    journal.open(an_open(5_000))
    tails.look()
    monkeypatch.undo()
    assert "crash" not in {end.end_reason for end in taken(tails)}
    journal.close()
    assert outcomes(taken(tails)) == [(5_000, "crash")]


def test_a_dead_worker_s_last_record_cut_at_any_byte_costs_that_record_only(tmp_path: Path) -> None:
    journal = a_journal(tmp_path)
    first, last = write_calls(journal, range(2))
    journal.close()
    (name,) = list_segments(tmp_path)
    whole = name.path(tmp_path).read_bytes()
    frame = bytearray()
    framing.encode_into(last, frame)
    assert whole.endswith(bytes(frame))
    zeros = len(frame) - len(frame.rstrip(b"\0"))  # at its end; the preallocated space has them already
    for missing in range(zeros + 1, len(frame) + 1):
        for padding in (b"", bytes(5_000)):
            copy = tmp_path / f"{missing}-{len(padding)}"
            (copy / NODE).mkdir(parents=True)
            name.path(copy).write_bytes(whole[:-missing] + padding)
            assert outcomes(taken(Tails(copy, {}))) == [(0, "complete"), (1, "crash")], missing
            assert list_segments(copy) == []
    assert outcomes(taken(Tails(tmp_path, {}))) == outcomes([first, last])


def test_a_living_worker_s_half_written_record_is_read_once_it_is_whole(tmp_path: Path) -> None:
    journal, tails = a_journal(tmp_path), Tails(tmp_path, {})
    (end,) = write_calls(journal, range(1))
    assert taken(tails) == [end]
    (name,) = list_segments(tmp_path)
    frame = bytearray()
    framing.encode_into(an_end(an_open(3)), frame)
    start = journal._segment.position if journal._segment else 0
    with name.path(tmp_path).open("r+b", buffering=0) as file:
        for size in (3, 9, len(frame.rstrip(b"\0")) - 1):
            file.seek(start)
            file.write(frame[:size])
            assert taken(tails) == []
        file.seek(start)
        file.write(frame)
    assert taken(tails) == [an_end(an_open(3))]
    tails.close()
    journal.close()


def test_what_this_version_cannot_read_is_kept_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / NODE).mkdir(parents=True)
    foreign = tmp_path / NODE / "aaaaaaaa-0"
    foreign.write_bytes(b"ttjrnl9\nfrom the future")
    journal, tails = a_journal(tmp_path), Tails(tmp_path, {})
    ends = write_calls(journal, range(1))
    assert taken(tails) == ends
    assert foreign.exists()
    assert caplog.text.count("another format") == 1
    tails.close()
    journal.close()


def test_an_empty_segment_of_a_worker_that_lost_power_is_removed(tmp_path: Path) -> None:
    (tmp_path / NODE).mkdir(parents=True)
    (tmp_path / NODE / "aaaaaaaa-0").write_bytes(bytes(4_096))
    assert taken(Tails(tmp_path, {})) == []
    assert list_segments(tmp_path) == []


def test_a_segment_damaged_in_its_middle_is_put_aside_not_deleted(tmp_path: Path) -> None:
    journal = a_journal(tmp_path)
    write_calls(journal, range(3))
    journal.close()
    (name,) = list_segments(tmp_path)
    path = name.path(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert len(taken(Tails(tmp_path, {}))) < 4
    assert list_segments(tmp_path) == []
    assert path.with_name(path.name + KEPT_AS).read_bytes() == content


def test_what_is_no_readable_file_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Opening a pipe would wait for ever, and one odd entry would keep all others from being booked."""
    journal, tails = a_journal(tmp_path), Tails(tmp_path, {})
    ends = write_calls(journal, range(3))
    os.mkfifo(tmp_path / NODE / "0000000a-0")
    os.mkfifo(tmp_path / NODE / ".new-0000000a-0")
    (tmp_path / NODE / "0000000b-0").mkdir()
    (tmp_path / NODE / "0000000c-0").symlink_to(tmp_path / "nowhere")
    (tmp_path / NODE / "0000000d-0").write_bytes(b"something else")
    remove_leftovers(tmp_path)
    assert taken(tails) == ends
    journal.close()
    assert taken(tails) == []
    assert [str(name) for name in list_segments(tmp_path)] == [f"{NODE}/0000000d-0"]
    for _ in range(5):
        tails.unbooked_bytes()
    assert len([record for record in caplog.records if "0000000d-0 is of another format" in record.getMessage()]) == 1
    tails.close()


def test_a_segment_that_may_not_be_read_is_kept_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is of another account. (Tests may run as root, who may read all: so the refusal is made here.)"""
    other = a_journal(tmp_path)
    write_calls(other, range(100, 102))
    other.close()
    (theirs,) = list_segments(tmp_path)
    journal, tails = a_journal(tmp_path), Tails(tmp_path, {})
    ends = write_calls(journal, range(3))
    real_open = os.open

    def refusing(path: Any, *more: Any, **named: Any) -> int:
        if str(path).endswith(str(theirs)):
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *more, **named)

    monkeypatch.setattr(os, "open", refusing)
    assert taken(tails) == ends
    assert theirs in list_segments(tmp_path)
    tails.close()
    journal.close()


def test_a_row_that_was_never_open_is_taken_once_from_the_living_and_the_dead(tmp_path: Path) -> None:
    journal, tails = a_journal(tmp_path), Tails(tmp_path, {})
    elsewhere = an_end(an_open(7, lane="ingest"))
    journal.book(elsewhere)
    assert taken(tails) == [elsewhere]
    later = an_end(an_open(8, lane="ingest"))
    journal.book(later)
    journal.close()
    assert taken(tails) == [later]
    tails.close()
