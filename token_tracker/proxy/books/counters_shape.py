"""The shape of the counters' file: what the ledger holds for each budget, from the recorder to its gateways.

`MAGIC`, the head's length in four bytes (little-endian), the head, the shards. A shard is rewritten only when one of
its counters changed, so that a gateway decodes little at a time and only what is new.
"""

from __future__ import annotations

import struct

import msgspec

from token_tracker.proxy.gate.store import Position

MAGIC = b"ttcnt-1\n"  # the digit is the version of this format
HEAD_LENGTH = struct.Struct("<I")
HEAD_AT = len(MAGIC) + HEAD_LENGTH.size
SHARD_ENTRIES = 64  # at most, about; decoded and compared in some 50 µs

# counter (`domain.rules.counter_key`), bucket, spent, unproven, version, `leaves_at_s`
ShardEntry = tuple[str, int, int, int, int, int]


class CountersHead(msgspec.Struct, frozen=True, array_like=True):
    """`shards`: of each, how often it was changed and its length in bytes. Numbers of changes mean something only
    beside those of the same `writer`."""

    writer: str
    made_at_us: int
    ready: tuple[str, ...]
    positions: dict[str, Position]
    shards: tuple[tuple[int, int], ...]
