"""The gateway's view of the database: the snapshot's sections, decoded only where they changed."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from token_tracker.config.encryption import Keyring
from token_tracker.proxy.books.publication import KeyRecord, PriceRecord, RulesRecord, Section, Snapshot
from token_tracker.proxy.credentials import Credentials, opened

log = logging.getLogger("token_tracker.gateway")

_snapshots = msgspec.msgpack.Decoder(Snapshot)
_keys = msgspec.msgpack.Decoder(dict[bytes, KeyRecord])
_prices = msgspec.msgpack.Decoder(dict[str, dict[str, msgspec.Raw]])
_rules = msgspec.msgpack.Decoder(RulesRecord)
_price = msgspec.msgpack.Decoder(PriceRecord)
_credentials = msgspec.msgpack.Decoder(dict[str, str])


class SnapshotReader:
    """The last snapshot that could be read. `version` and `made_at_us` are 0 while there was none.

    `keys`, `rules` and `credentials` are replaced as a whole, never changed: who holds one sees one state.
    `keyring`: what opens the credentials.
    """

    def __init__(self, path: Path, keyring: Keyring | None = None) -> None:
        self.version = 0
        self.made_at_us = 0
        self.keys: dict[bytes, KeyRecord] = {}
        self.rules = RulesRecord()
        self.credentials = Credentials()
        self._keyring = keyring or Keyring()
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._digests: dict[str, str] = {}
        self._raw_prices: dict[str, dict[str, msgspec.Raw]] = {}
        self._prices: dict[tuple[str, str], PriceRecord | None] = {}

    def refresh(self) -> bool:
        """Look whether the file was replaced, and take it over; True if it was. One `stat` if not.

        A file that cannot be read is reported once, and the last good one stays.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._take(_snapshots.decode(self._path.read_bytes()))
        except (OSError, msgspec.DecodeError) as error:
            log.error("the snapshot %s cannot be read, the last one stays in use: %s", self._path, error)
            return False
        return True

    def price(self, source: str, name: str) -> PriceRecord | None:
        """The price of exactly this name from 'override' or 'file'."""
        asked = (source, name)
        if asked not in self._prices:
            raw = self._raw_prices.get(source, {}).get(name)
            if raw is None:
                return None
            self._prices[asked] = _price.decode(raw)
        return self._prices[asked]

    def _take(self, snapshot: Snapshot) -> None:
        """All sections are decoded before one is taken over."""
        keys = self._changed(snapshot, "keys")
        prices = self._changed(snapshot, "prices")
        rules = self._changed(snapshot, "rules")
        credentials = self._changed(snapshot, "credentials")
        new_rules = _rules.decode(rules.body) if rules else None
        new_keys = _keys.decode(keys.body) if keys else None
        new_prices = _prices.decode(prices.body) if prices else None
        new_credentials = opened(_credentials.decode(credentials.body), self._keyring) if credentials else None
        if new_keys is not None:
            self.keys = new_keys
        if new_prices is not None:
            self._raw_prices, self._prices = new_prices, {}
        if new_rules is not None:
            self.rules = new_rules
        if new_credentials is not None:
            self.credentials = new_credentials
        self._digests = {name: section.digest for name, section in snapshot.sections.items()}
        self.version, self.made_at_us = snapshot.version, snapshot.made_at_us

    def _changed(self, snapshot: Snapshot, name: str) -> Section | None:
        section = snapshot.sections.get(name)
        return section if section and section.digest != self._digests.get(name) else None
