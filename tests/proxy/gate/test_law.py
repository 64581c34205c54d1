"""Law 4, for any order of what may happen: a hard budget never admits above its limit, and nothing leaks.

The gate that the gateway runs, on both stores, against the judge. Only a lowered limit and a provider that bills past
the bound may bring a budget above its limit; then nothing is admitted until it fits again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.proxy.gate.judge import DAY_US, HOUR_US, Counted, Judge
from tests.proxy.gate.ledger import Ledger
from tests.proxy.gate.stand import NOON_US, REDIS_URL, Stand, budget, kill
from token_tracker.domain.holds import Ask
from token_tracker.domain.rules import BudgetRule, CallFacts
from token_tracker.domain.windows import NEVER_S, first_bucket
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.gate.memory import MemoryStore
from token_tracker.proxy.gate.places import Rules
from token_tracker.proxy.gate.redis import RedisStore
from token_tracker.proxy.gate.redis_books import RedisBooks
from token_tracker.proxy.gate.store import END, Books, CounterState, Entry, Position, Reason

EVERYTHING = budget(10**15, id="everything", enforcement="soft", period="total")  # so that every call has an entry
MENU = {
    "day": budget(1000, id="day"),
    "rolling": budget(900, id="rolling", period="rolling_24h", model="dear"),
    "member": budget(600, id="member", scope_type="user", scope_id="*", period="total"),
    "late": budget(800, id="late", period="daily"),
}
MODELS = [frozenset({"dear"}), frozenset({"cheap"}), frozenset({"dear", "cheap"})]
pick = st.integers(0, 10**6)


class Law(RuleBasedStateMachine):
    kind = "memory"

    @initialize()
    def begin(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.stand = Stand(self.kind)
        self.do(self.stand.add_gate())
        self.judge, self.ledger = Judge(), Ledger()
        self.active: dict[str, BudgetRule] = {name: MENU[name] for name in ("day", "rolling", "member")}
        self.alive: list[Gate] = [self.stand.gate]
        self.dead: list[str] = []
        self.now_us = NOON_US
        self.untold: list[tuple[Gate, Entry]] = []
        self.told: list[tuple[Gate, Entry]] = []
        self.snapshots: list[Books] = []
        self.ready: set[str] = set()
        self.never_told: list[Entry] = []
        self.delivered: dict[str, Position] = {}
        self.apply_rules()
        self.deliver_newest()

    def do(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.do(self.stand.__aexit__())
            self.loop.close()

    # what the configuration does

    def apply_rules(self) -> None:
        for gate in self.alive:
            gate.set_rules(Rules([*self.active.values(), EVERYTHING]))

    @rule(name=st.sampled_from(sorted(MENU)), limit=st.integers(0, 1500))
    def change_a_limit(self, name: str, limit: int) -> None:
        if name in self.active:
            self.active[name] = replace(self.active[name], limit_nano_usd=limit)
            self.apply_rules()

    @rule(amount=st.integers(1, 500), hours=st.integers(0, 30))
    def top_up(self, amount: int, hours: int) -> None:
        until_us = self.now_us + hours * HOUR_US if hours else 0
        self.active["day"] = replace(self.active["day"], top_ups=((amount, until_us, self.now_us),))
        self.apply_rules()

    @rule()
    def make_another_rule(self) -> None:
        """Its counter is built from the ledger, calls that are not booked come from the gateways."""
        self.active.setdefault("late", MENU["late"])
        self.apply_rules()

    # what calls do

    @rule(
        usd=st.integers(0, 500),
        models=st.sampled_from(MODELS),
        user=st.sampled_from("xy"),
        gate=pick,
        choice=st.booleans(),
    )
    def ask(self, usd: int, models: frozenset[str], user: str, gate: int, choice: bool) -> None:
        which = self.alive[gate % len(self.alive)]
        facts = CallFacts(user=user, models=models)
        call_id = f"c{next(self.stand.numbers)}"
        bounds = (1, 300) if choice else (0, 0)
        ask = Ask(call_id, self.now_us, facts, usd, 1000, 0, 1, *bounds, is_own_maximum=False)
        before = self.all_states()
        verdict = self.do(which.admit(ask, which.demands(facts)))
        hard = [each for each in self.active.values() if not each.model or each.model in models]
        truth = [sum(self.judge.state(each, user, self.now_us)) for each in hard]
        if not verdict.is_admitted:
            assert self.all_states() == before, "a refusal changed something"
            reasons = {each.reason for each in verdict.refused}
            least = usd + bounds[0]
            is_right = any(sum_ + least > self.limit(each) for each, sum_ in zip(hard, truth, strict=True))
            assert is_right or Reason.COUNTER_BUILDING in reasons or self.is_in_motion(), "a phantom refusal"
            return
        held = usd + verdict.output_tokens
        assert verdict.held_nano_usd == held
        assert bounds[0] <= verdict.output_tokens <= bounds[1]
        for each, sum_ in zip(hard, truth, strict=True):
            assert sum_ + held <= self.limit(each), f"{each.id} is not hard"
        self.judge.calls[call_id] = Counted(self.now_us, user, models, held, gateway=which.incarnation)
        self.ledger.open(Entry(call_id, which.incarnation, self.now_us, facts, held))

    def limit(self, rule: BudgetRule) -> int:
        limit = rule.limit_nano_usd or 0
        for amount, until_us, from_us in rule.top_ups:
            is_on = self.now_us < until_us if until_us else self.now_us // DAY_US == from_us // DAY_US
            limit += amount if is_on and from_us <= self.now_us else 0
        return limit

    def is_in_motion(self) -> bool:
        """A row is in a base, and its gateway has not said that the call has ended; one that died before it could is
        buried soon."""
        never_told = [entry for entry in self.never_told if self.delivered.get(entry.incarnation) != END]
        return any(entry.id in self.ledger.rows for entry in [*never_told, *(entry for _, entry in self.untold)])

    def open_calls(self) -> list[tuple[Gate, Entry]]:
        return [(gate, entry) for gate in self.alive for entry in self.ledger.opens[gate.incarnation].values()]

    @precondition(lambda self: self.open_calls())
    @rule(which=pick, part=st.integers(0, 130), is_proven=st.booleans(), model=st.sampled_from(["dear", "cheap"]))
    def end(self, which: int, part: int, is_proven: bool, model: str) -> None:
        """The end record is in the journal; 130%: the provider bills past the bound."""
        gate, entry = self.open_calls()[which % len(self.open_calls())]
        spent = entry.nano_usd * part // 100
        unproven = 0 if is_proven else max(0, entry.nano_usd - spent)
        facts = entry.facts._replace(models=frozenset({model}) & entry.facts.models or entry.facts.models)
        ended = Entry(entry.id, gate.incarnation, entry.admitted_us, facts, spent, 0, unproven, 0)
        self.untold.append((gate, self.ledger.end(ended)))

    @precondition(lambda self: self.untold)
    @rule(which=pick)
    def settle(self, which: int) -> None:
        gate, entry = self.untold.pop(which % len(self.untold))
        gate.settle(entry)
        self.told.append((gate, entry))
        self.know(entry)

    def know(self, entry: Entry) -> None:
        call = self.judge.calls[entry.id]
        call.row, call.row_models = (entry.nano_usd, entry.unproven_nano_usd), entry.facts.models

    @precondition(lambda self: self.told)
    @rule(which=pick)
    def settle_again(self, which: int) -> None:
        gate, entry = self.told[which % len(self.told)]
        if gate in self.alive:
            gate.settle(entry)
            gate.release(entry.id)

    @precondition(lambda self: self.open_calls())
    @rule(which=pick)
    def release(self, which: int) -> None:
        gate, entry = self.open_calls()[which % len(self.open_calls())]
        gate.release(entry.id)
        gate.release(entry.id)
        self.ledger.never_left(entry)
        del self.judge.calls[entry.id]

    # what the books do

    @rule(which=pick, count=st.integers(1, 5))
    def book(self, which: int, count: int) -> None:
        incarnations = sorted(self.ledger.ends)
        if incarnations:
            self.ledger.book(incarnations[which % len(incarnations)], count)
            self.look_at_the_books()

    def look_at_the_books(self) -> None:
        """A new rule is ready once what dead gateways left is booked: nobody else can tell it of their calls."""
        books = self.ledger.books([*self.active.values(), EVERYTHING])
        left = any(self.ledger.positions.get(incarnation) != END for incarnation in self.dead)
        waits = {"late"} - self.ready if left else set()
        self.snapshots.append(replace(books, ready=books.ready - waits))

    @precondition(lambda self: self.snapshots)
    @rule(which=pick)
    def deliver(self, which: int) -> None:
        """Any of what the books ever said, in any order, as often as it comes."""
        self.take(self.snapshots[which % len(self.snapshots)])

    def take(self, books: Books) -> None:
        bases = {tuple(name): base for name, base in books.bases.items()}
        self.do(self.stand.books(bases, dict(books.positions), books.ready, is_complete=True))
        self.ready |= books.ready
        for incarnation, position in books.positions.items():
            self.delivered[incarnation] = max(position, self.delivered.get(incarnation, position))
        for row in self.ledger.rows.values():
            if row.incarnation in books.positions and row.id in self.judge.calls:
                position = books.positions[row.incarnation]
                if (row.position or END) <= position:
                    self.know(row)

    @rule()
    def deliver_newest(self) -> None:
        self.ledger.commits += 1
        self.look_at_the_books()
        self.take(self.snapshots[-1])
        for store in self.stand.stores:
            if isinstance(store, MemoryStore):
                store.recovered()

    # what the world does

    @rule(minutes=st.sampled_from([1, 30, 60, 61, 12 * 60, 24 * 60, 25 * 60, -30]))
    def time_goes_by(self, minutes: int) -> None:
        self.now_us += minutes * 60_000_000
        for gate in self.alive:
            gate.heartbeat(self.now_us)

    @rule(which=pick)
    def a_gateway_dies(self, which: int) -> None:
        gate = self.alive.pop(which % len(self.alive))
        self.dead.append(gate.incarnation)
        self.never_told += [entry for whose, entry in self.untold if whose is gate and self.kind == "redis"]
        self.untold = [(whose, entry) for whose, entry in self.untold if whose is not gate]
        place = self.stand.gates.index(gate)
        store = self.stand.stores[place]
        if isinstance(store, RedisStore):
            self.do(kill(store))
        del self.stand.gates[place], self.stand.stores[place]
        new = self.do(self.stand.add_gate(f"{len(self.dead) + 1:08x}"))
        self.alive.append(new)
        new.set_rules(Rules([*self.active.values(), EVERYTHING]))
        if self.kind == "memory":
            self.resume(new)
        else:
            self.do(self.stand.settled())

    def resume(self, gate: Gate) -> None:
        """From the books' last word and the journal."""
        self.ledger.commits += 1
        self.look_at_the_books()
        self.take(self.snapshots[-1])
        for incarnation in self.dead:
            gate.restore(self.ledger.unbooked(incarnation))
            for entry in self.ledger.unbooked(incarnation):
                if entry.position:
                    self.know(entry)
        self.deliver_newest()

    @precondition(lambda self: self.kind == "redis")
    @rule(which=pick)
    def a_gateway_is_missed(self, which: int) -> None:
        """One that lives says something at once; of one that is dead nobody knows what its calls come to."""
        incarnations = [*self.dead, *(gate.incarnation for gate in self.alive)]
        missed = incarnations[which % len(incarnations)]
        recorder = RedisBooks(REDIS_URL, namespace=self.stand.namespace, silence_s=0)
        self.do(recorder.send(Books(left={missed: []}), True))
        self.do(recorder.close())
        for call in self.judge.calls.values():
            call.is_missed = call.is_missed or (call.gateway == missed and missed in self.dead)

    @rule()
    def nothing_leaks(self) -> None:
        for gate in self.alive:
            self.do(gate.compare())
            assert gate.store_figures.leaks == 0

    @precondition(lambda self: self.dead)
    @rule(which=pick)
    def bury(self, which: int) -> None:
        self.ledger.bury(self.dead[which % len(self.dead)])

    @precondition(lambda self: self.kind == "redis" and len(self.alive) < 3)
    @rule()
    def another_gateway_starts(self) -> None:
        new = self.do(self.stand.add_gate(f"{len(self.dead) + len(self.alive) + 100:08x}{len(self.judge.calls)}"))
        self.alive.append(new)
        new.set_rules(Rules([*self.active.values(), EVERYTHING]))
        self.do(self.stand.settled())

    # what must always hold

    def all_states(self) -> dict[tuple[str, str], CounterState]:
        self.do(self.stand.settled())
        return {
            (each.id, user): self.store_state(each, user)
            for each in self.active.values()
            for user in ("xy" if each.scope_type == "user" else " ")
        }

    def store_state(self, rule: BudgetRule, user: str) -> CounterState:
        first = first_bucket(rule.period, "UTC", self.now_us, rule.starts_at_us)
        last = first if rule.period == "daily" else NEVER_S
        state: CounterState = self.do(self.stand.store.counter(f"{rule.id}|usd|{user.strip()}", first, last))
        return state

    @invariant()
    def the_gate_counts_what_the_judge_counts(self) -> None:
        if not hasattr(self, "judge"):
            return
        for (name, user), state in self.all_states().items():
            rule = self.active[name]
            spent, held, unproven = self.judge.state(rule, user, self.now_us)
            if name not in self.ready:  # it refuses all until then
                continue
            assert state.counted >= spent + held + unproven, f"{name} counts too little"
            if not self.is_in_motion():
                assert (state.spent, state.held, state.unproven) == (spent, held, unproven), name


@pytest.mark.timeout(300)
def test_law_4_holds_whatever_happens_in_whatever_order(kind: str) -> None:
    machine = type("Law" + kind.title(), (Law,), {"kind": kind})
    examples, steps = (150, 50) if kind == "memory" else (40, 35)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
