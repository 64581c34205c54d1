"""How a record lies in a segment: length, CRC-32, msgpack. Zeros are preallocated space: nothing yet."""

from __future__ import annotations

import struct
import zlib

import msgspec

from token_tracker.proxy.books.records import Record

MAGIC = b"ttjrnl1\n"  # the first bytes of a segment; the digit is the version of this format
HEADER_BYTES = 8
MAX_RECORD_BYTES = 256 * 1024  # a longer length is no length; the gateway bounds what clients control far below

_HEADER = struct.Struct("<II")  # payload bytes, CRC-32 of the payload
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class RecordTooLong(ValueError):
    """A record above MAX_RECORD_BYTES: nothing that the gateway builds can be."""


def encode_into(record: Record, buffer: bytearray) -> None:
    """Make `buffer` the frame of `record`. Raises RecordTooLong."""
    del buffer[:]
    _encoder.encode_into(record, buffer, HEADER_BYTES)
    payload_bytes = len(buffer) - HEADER_BYTES
    if payload_bytes > MAX_RECORD_BYTES:
        raise RecordTooLong(f"a record of {payload_bytes} bytes; at most {MAX_RECORD_BYTES} are kept")
    with memoryview(buffer) as view:
        _HEADER.pack_into(buffer, 0, payload_bytes, zlib.crc32(view[HEADER_BYTES:]))


def split(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """The whole, sound payloads at the beginning of `data`, each with the offset of its end, and how far they reach.

    What follows is nothing yet, a frame that is still incomplete, or damage; only a dead writer's is known to be torn.
    """
    found: list[tuple[int, bytes]] = []
    start, size = 0, len(data)
    while start + HEADER_BYTES <= size:
        length, checksum = _HEADER.unpack_from(data, start)
        end = start + HEADER_BYTES + length
        if not 0 < length <= MAX_RECORD_BYTES or end > size:
            break
        payload = data[start + HEADER_BYTES : end]
        if zlib.crc32(payload) != checksum:
            break
        found.append((end, payload))
        start = end
    return found, start


def skip(data: bytes) -> int:
    """How far frames reach by their lengths alone: enough to tell how much lies there, at a fraction of the cost."""
    start, size = 0, len(data)
    while start + HEADER_BYTES <= size:
        length, _ = _HEADER.unpack_from(data, start)
        if not 0 < length <= MAX_RECORD_BYTES or start + HEADER_BYTES + length > size:
            break
        start += HEADER_BYTES + length
    return start


def decode(payload: bytes) -> Record:
    """Raises msgspec.DecodeError for what this version does not know."""
    return _decoder.decode(payload)
