"""What a store of counters does, and the values that go in and out: the same for memory and Redis.

A counter is *base + entries*. Its base is what the ledger holds (`Base`, from the books); its entries are what the
ledger does not hold yet (`Entry`): live holds, and ended calls that are not booked. An entry leaves in the very step
that brings the base which includes its row, so that nothing is ever counted too little; too much only for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from msgspec import Struct

from token_tracker.domain.holds import Ask
from token_tracker.domain.rules import BudgetRule, CallFacts, RateRule
from token_tracker.proxy.gate.places import Placed, Places
from token_tracker.proxy.histogram import Histogram

MEMBERS_MOST = 100_000  # live counters of a rule with `id: "*"`

SILENCE_S = 15  # a gateway says something twice a second

Position = tuple[int, int]  # number of a journal segment, and the offset behind a record in it: as the books count
NOT_BOOKED: Position = (-1, 0)
END: Position = (2**62, 0)  # of a dead incarnation that is wholly booked, crash rows included


class Reason(StrEnum):
    """Why a rule refuses. Those of the contract's codes have their names."""

    COST_UNBOUNDED = "cost_unbounded"  # a hard budget, and nothing bounds the worst case in its measure
    BUDGET_EXCEEDED = "budget_exceeded"  # does not fit even with nothing in flight
    BUDGET_HELD = "budget_held"  # would fit but for calls in flight
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    TOO_MANY_MEMBERS = "too_many_members"  # the rule is for each member and has no room for one more
    COUNTER_BUILDING = "counter_building"
    STORE_RECOVERING = "store_recovering"
    STORE_UNAVAILABLE = "store_unavailable"  # no answer within the bound; what it may have taken is given back


@dataclass(frozen=True, slots=True)
class Refused:
    """One rule that refuses, and its numbers at that moment: nano-dollars or tokens by `measure` ('usd', 'tokens');
    for rates 'requests', 'tokens' or 'concurrent', with what counts in `spent`.

    `largest_output`: the output maximum that would fit now, negative if none does, None where that is no answer.
    `resets_at_s`: when the window ends (rolling: when its oldest amount leaves), 0 where unknown or never.
    `retry_after_s`: when trying again may help, 0 where waiting does not.
    """

    reason: Reason
    rule: BudgetRule | RateRule
    member: str = ""
    measure: str = ""
    limit: int = 0
    spent: int = 0
    held: int = 0
    unproven: int = 0
    resets_at_s: int = 0
    largest_output: int | None = None
    retry_after_s: int = 0


class RateState(Struct, frozen=True):
    """The tightest rate rule of a unit after this admission, for `x-ratelimit-*`."""

    limit: int
    remaining: int
    reset_s: int


class Verdict(Struct):
    """What the gate says to an ask. Admitted: neither `refused` nor `downgrade`.

    `output_tokens`: the output maximum to send (the ask's own where no budget changes it). `held_nano_usd`,
    `held_tokens`: what the open record says is held; 0 where no hard budget holds. `downgrade`: nothing was taken; ask
    again for this rule's `downgrade_model`, with `may_downgrade=False`. `is_counted` False: the store was away, and no
    rule minds. A refusal changed nothing and names every rule that refuses.
    """

    refused: tuple[Refused, ...] = ()
    downgrade: BudgetRule | None = None
    output_tokens: int = 0
    held_nano_usd: int = 0
    held_tokens: int = 0
    requests: RateState | None = None
    tokens: RateState | None = None
    is_counted: bool = True

    @property
    def is_admitted(self) -> bool:
        return not self.refused and self.downgrade is None


class Entry(Struct, frozen=True):
    """What one gateway knows of a call and the ledger does not yet.

    Live (`position` None): `nano_usd` and `tokens` are held. Ended: they are spent (as booked), and the `unproven_…`
    stay counted beside them; `facts` are then the row's. `incarnation` wrote the end record, at `position`.
    """

    id: str
    incarnation: str
    admitted_us: int
    facts: CallFacts
    nano_usd: int = 0
    tokens: int = 0
    unproven_nano_usd: int = 0
    unproven_tokens: int = 0
    position: Position | None = None

    @property
    def is_live(self) -> bool:
        return self.position is None


class CounterBucket(NamedTuple):
    """A counter's amount of one bucket; the counter's name is `domain.rules.counter_key`."""

    counter: str
    bucket: int


class Base(NamedTuple):
    """What the ledger holds, its version in `counter_states`, and `domain.windows.leaves_at_s` of the bucket."""

    spent: int
    unproven: int
    version: int
    leaves_at_s: int


class Left(NamedTuple):
    """What an incarnation held in one bucket of a counter when its node last said so."""

    counter: str
    bucket: int
    leaves_at_s: int
    amount: int


@dataclass(frozen=True, slots=True)
class Books:
    """What the ledger holds at one commit.

    `bases`: at least every counter that changed since the last `Books` that a store took, or all. `positions`: how far
    each incarnation's journal is booked, `END` where nothing more will come. `ready`: the rules whose bases are there;
    a new one is ready only once all that dead gateways left is booked, since nobody else can tell it of their calls.
    `left`: of gateways that may be gone, for a store that many share: it counts as unproven what one holds that it has
    not heard of for `SILENCE_S`, or never; of one that an admin gave up (None), nothing counts then.
    """

    bases: Mapping[CounterBucket, Base] = field(default_factory=dict)
    positions: Mapping[str, Position] = field(default_factory=dict)
    ready: frozenset[str] = frozenset()
    left: Mapping[str, Sequence[Left] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CounterState:
    """What a counter counts in some buckets."""

    spent: int = 0
    held: int = 0
    unproven: int = 0

    @property
    def counted(self) -> int:
        return self.spent + self.held + self.unproven


class StoreState(StrEnum):
    """Whether calls can be admitted: by hard budgets only when `READY`, by no shared counter while `AWAY`."""

    READY = "ready"
    RECOVERING = "recovering"
    AWAY = "away"


class StoreFigures(NamedTuple):
    """`queued`: operations that the store has not taken yet. `waits`: of admissions for its answer. `leaks`: holds of
    calls that nobody knew, which were given back."""

    kind: str  # memory | redis
    state: StoreState
    queued: int
    waits: Histogram
    leaks: int = 0


def admission_waits() -> Histogram:
    """Up to the bound on a wait, and one bucket for what was late all the same."""
    return Histogram((0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0))


class Store(Protocol):
    """All steps but `admit` are idempotent and may come in any order.

    `place`, `free`, `take_books` and `renew` return at once; a store that lies elsewhere does them in the background,
    in the order given, until they are done; `settled` waits for that.
    """

    on_lost: Callable[[], None]  # called when a server's state is gone: all entries are to be placed again

    @property
    def figures(self) -> StoreFigures: ...

    async def admit(self, ask: Ask, placed: Placed) -> Verdict:
        """All rules of the call or none."""
        ...

    def place(self, entries: Sequence[tuple[Entry, Places]]) -> None:
        """These entries count so much in these places and nowhere else (`placed` again, ended, or known again after a
        loss). One that ended is never made live again; one that is booked already counts no more."""
        ...

    def free(self, call_id: str, incarnation: str) -> None:
        """The call's request provably never left and has no row: all it took is given back, but for requests in rates.
        An ended call is not freed."""
        ...

    def take_books(self, books: Books) -> None: ...

    def recovered(self) -> None:
        """Books and journal have been taken: hard budgets may admit. Redis decides that itself."""
        ...

    def renew(self, call_ids: Iterable[str], now_us: int) -> None:
        """These calls are still in flight: their concurrency leases live on."""
        ...

    async def compare(self, known: Container[str]) -> None:
        """Each minute: what is held for a call that is not `known` is given back, and counted as a leak. There is no
        such hold unless something is wrong."""
        ...

    def booked(self, incarnation: str) -> Position:
        """How far an incarnation's journal is booked, as far as known here."""
        ...

    async def settled(self) -> None:
        """Until all that was given in the background has been done."""
        ...

    async def counter(self, counter: str, first_bucket: int, last_bucket: int) -> CounterState: ...

    async def close(self) -> None: ...
