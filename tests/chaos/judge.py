"""Law 1 as arithmetic: compares the rows of a ledger with the provider's own books, and says all that is wrong.

Pure: rows of `token_usage` and `usage_hourly` as mappings, entries of the provider's books, and what clients saw.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.functional.books import COUNTS, NANO_USD

Row = Mapping[str, Any]
Entry = Mapping[str, Any]
CUT = ("upstream_disconnect", "upstream_error", "cancelled")
ERRORS = ("upstream_error", "upstream_disconnect", "timeout", "crash")


@dataclass(frozen=True, slots=True)
class Witness:
    """What the clients and the killer know, by markers of calls.

    `complete`: its client saw the end. `at_kill`: may have been open when a gateway was killed; `at_child_kill`: when
    the LiteLLM child was; `left`: its client went away.
    """

    complete: frozenset[str] = frozenset()
    at_kill: frozenset[str] = frozenset()
    at_child_kill: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()


@dataclass(slots=True)
class Verdict:
    """Markers or ids of what is wrong; `reasons` counts rows by how they ended, `proven` those with usage compared."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)
    served: int = 0
    proven: int = 0
    extra_crashes: int = 0
    uncertain: int = 0  # estimates for calls that were cut between the gateway, the LiteLLM child and the provider
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def problems(self) -> list[str]:
        named = {"lost": self.lost, "doubled": self.doubled, "invented": self.invented}
        named |= {"unequal": self.unequal, "roll-ups": self.sums}
        return [f"{name}: {', '.join(which[:10])}" for name, which in named.items() if which]


def judge(rows: Sequence[Row], hours: Sequence[Row], entries: Sequence[Entry], witness: Witness = Witness()) -> Verdict:
    """Every request that the provider served is one row with the same tokens and their cost; what else there is are
    `crash` rows of calls in flight at a kill, and rows without usage of attempts that reached nobody."""
    verdict = Verdict(served=len(entries), reasons=Counter(str(row["end_reason"]) for row in rows))
    rows_of, entries_of = defaultdict[str, list[Row]](list), defaultdict[str, list[Entry]](list)
    for row in rows:
        rows_of[row["end_user"]].append(row)
    for entry in entries:
        entries_of[entry["marker"]].append(entry)
    for marker in rows_of.keys() | entries_of.keys():
        _judge_call(marker, rows_of[marker], entries_of[marker], witness, verdict)
    for marker in sorted(witness.complete):
        if "complete" not in {row["end_reason"] for row in rows_of[marker]}:
            verdict.unequal.append(f"{marker} was seen complete and is not booked so")
    verdict.sums += _wrong_sums(rows, hours)
    return verdict


def _judge_call(marker: str, rows: list[Row], entries: list[Entry], witness: Witness, verdict: Verdict) -> None:
    attempts = Counter((row["call_id"], row["attempt"]) for row in rows)
    verdict.doubled += [f"{marker} {attempt}" for attempt, count in attempts.items() if count > 1]
    pairs, extra_rows, extra_entries = _paired(rows, entries)
    verdict.lost += [f"{marker} {entry['request_id']}" for entry in extra_entries]
    for row, entry in pairs:
        _compare(marker, row, entry, verdict)
        if row["end_reason"] == "crash" and marker not in witness.at_kill:
            verdict.unequal.append(f"{marker} is booked as a crash, and no kill can have met it")
    for row in extra_rows:
        if _ids(row) & set().union(*(_ids(other) for other, _ in pairs)):
            verdict.doubled.append(f"{marker} {row['id']} names what another row has")
        elif row["end_reason"] == "crash" and marker in witness.at_kill:
            verdict.extra_crashes += 1
        elif _is_uncertain(row, marker, witness):
            verdict.uncertain += 1
        elif row["usage_source"] != "none" or row["cost_nano_usd"] != 0:  # it reached nobody, so it costs nothing
            verdict.invented.append(f"{marker} {row['end_reason']}/{row['usage_source']}/{row['status_code']}")


def _paired(rows: list[Row], entries: list[Entry]) -> tuple[list[tuple[Row, Entry]], list[Row], list[Entry]]:
    """Each row with its entry: by the provider's own ids where the row has them, the others in their order."""
    pairs: list[tuple[Row, Entry]] = []
    free, left = list(entries), list[Row]()
    for row in sorted(rows, key=lambda row: (row["call_id"], row["attempt"])):
        ids = _ids(row)
        named = next((entry for entry in free if ids & {entry["id"], entry["request_id"]}), None)
        if named is None:
            left.append(row)
        else:
            free.remove(named)
            pairs.append((row, named))
    # Those that served nobody last: such a row takes an entry only if no other needs it.
    left.sort(key=lambda row: row["usage_source"] == "none")
    nameless = [row for row in left if not row["upstream_request_id"] or row["lane"] == "litellm"]
    for row, entry in list(zip(nameless, free, strict=False)):
        left.remove(row)
        free.remove(entry)
        pairs.append((row, entry))
    return pairs, left, free


def _ids(row: Row) -> set[str]:
    return {row["upstream_id"], row["upstream_request_id"]} - {"", None}


def _is_uncertain(row: Row, marker: str, witness: Witness) -> bool:
    """Of a translated call that was cut off while the child had it, nobody knows whether the provider saw it; it is
    booked as an estimate. On the direct lane there is no such excuse."""
    if row["lane"] != "litellm" or row["usage_source"] != "estimated":
        return False
    is_cut = marker in witness.at_child_kill | witness.left and row["end_reason"] in CUT
    return bool(row["end_reason"] == "timeout" or is_cut)


def _compare(marker: str, row: Row, entry: Entry, verdict: Verdict) -> None:
    counts = {name: row[name] for name in COUNTS if row[name]}
    if row["usage_source"] == "provider":
        verdict.proven += 1
        if counts != entry["billed"]:
            verdict.unequal.append(f"{marker} is {counts} for {entry['billed']}")
    elif row["usage_source"] == "none" and entry["status"] == 200 and row["end_reason"] == "complete":
        verdict.unequal.append(f"{marker} was served and has no usage")
    if row["end_reason"] == "crash":  # nothing is known of it, so its cost is no 0 either
        if counts or row["cost_nano_usd"] is not None or row["usage_source"] != "none":
            verdict.unequal.append(f"{marker} crashed and claims {counts} for {row['cost_nano_usd']}")
    elif row["cost_nano_usd"] != sum(count * NANO_USD[name] for name, count in counts.items()):
        verdict.unequal.append(f"{marker} costs {row['cost_nano_usd']} for {counts}")


def _wrong_sums(rows: Iterable[Row], hours: Iterable[Row]) -> list[str]:
    rows, hours = list(rows), list(hours)
    last = [row for row in rows if row["id"] == row["call_id"]]
    wanted = {name: sum(row[name] or 0 for row in rows) for name in (*COUNTS, "cost_nano_usd")}
    wanted |= {"attempts": len(rows), "calls": len(last)}
    wanted["errors"] = sum(row["end_reason"] in ERRORS for row in last)
    summed = {name: sum(hour[name] for hour in hours) for name in wanted}
    return [f"{name} {summed[name]} for {wanted[name]}" for name in wanted if summed[name] != wanted[name]]
