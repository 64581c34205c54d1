"""The shape of the snapshot: what the recorder publishes from the database and gateways live from.

One file, replaced atomically. A section is kept as raw bytes with a digest, so a gateway decodes only what changed.
"""

from __future__ import annotations

import msgspec

from token_tracker.domain.rules import BudgetRule, FreezeRule, RateRule


class Section(msgspec.Struct, frozen=True, array_like=True):
    digest: str
    body: bytes  # msgpack


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """`version`: config_version it was made from; `made_at_us`: when. Sections: 'keys', 'prices', 'rules',
    'credentials' (dict[str, str]: a provider's key by its credential's name, encrypted as in the database)."""

    version: int
    made_at_us: int
    sections: dict[str, Section]


class KeyRecord(msgspec.Struct, frozen=True, array_like=True):
    """A live virtual key, found by the SHA-256 of its text (section 'keys': dict[bytes, KeyRecord])."""

    id: str
    user: str
    team: str
    agent: str  # pinned agent, or ''
    models: tuple[str, ...]  # exact names, prefixes with '*', or '*'
    expires_at_us: int  # 0: never
    permissions: tuple[str, ...]


class PriceRecord(msgspec.Struct, frozen=True, array_like=True):
    """Rates in USD per unit as exact decimal text, by LiteLLM's field names.

    Section 'prices': dict[str, dict[str, msgspec.Raw]]: source ('override' | 'file') → model name → PriceRecord,
    left raw so that 4,000 prices cost nothing until one is asked for. Entry and `pricing` prices do not come by the
    snapshot: a gateway has them from its own proxy.yaml.
    """

    version: str
    rates: dict[str, str]


class RulesRecord(msgspec.Struct, frozen=True):
    """Section 'rules': all budgets, rate limits and freezes."""

    budgets: tuple[BudgetRule, ...] = ()
    rates: tuple[RateRule, ...] = ()
    freezes: tuple[FreezeRule, ...] = ()
