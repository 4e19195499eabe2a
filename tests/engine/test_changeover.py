"""Which model is loaded next, and which makes room."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.engine.changeover import Change, Resident, Wanted, next_change, next_look

MAX_WAIT = 30.0


def decided(residents: list[Resident], wanted: list[Wanted], *, now: float = 100.0, most: int = 10) -> Change | None:
    return next_change(now, residents, wanted, most, MAX_WAIT)


def test_what_fits_beside_the_others_is_loaded_at_once() -> None:
    busy = Resident("a", 4, jobs=3, last_used=99)
    assert decided([busy], [Wanted("b", 6, since=100)]) == Change("b")


def test_a_model_unused_for_long_makes_room_at_once_the_longest_unused_first() -> None:
    residents = [
        Resident("a", 4, 0, last_used=50),
        Resident("b", 4, 0, last_used=40),
        Resident("c", 2, 1, last_used=10),
    ]
    assert decided(residents, [Wanted("d", 4, since=100)]) == Change("d", ("b",))
    assert decided(residents, [Wanted("d", 8, since=100)]) == Change("d", ("b", "a"))


def test_a_model_that_was_used_lately_makes_room_when_half_the_time_is_over() -> None:
    lately = [Resident("a", 8, jobs=0, last_used=100 - MAX_WAIT + 1)]
    assert decided(lately, [Wanted("b", 8, since=100 - MAX_WAIT / 2 + 1)]) is None
    assert decided(lately, [Wanted("b", 8, since=100 - MAX_WAIT / 2)]) == Change("b", ("a",))
    assert decided(lately, [Wanted("b", 8, since=100, urgent=True)]) == Change("b", ("a",))


def test_a_busy_model_makes_room_for_who_has_waited_too_long_only() -> None:
    busy = [Resident("a", 8, jobs=1, last_used=99)]
    assert decided(busy, [Wanted("b", 8, since=100 - MAX_WAIT + 1)]) is None
    assert decided(busy, [Wanted("b", 8, since=100 - MAX_WAIT)]) == Change("b", ("a",))
    assert decided(busy, [Wanted("b", 8, since=100, urgent=True)]) == Change("b", ("a",))


def test_who_waits_longest_comes_first_and_high_priority_before_all() -> None:
    idle = [Resident("a", 8, 0, 0)]
    wanted = [Wanted("b", 8, since=95), Wanted("c", 8, since=90), Wanted("d", 8, since=99, urgent=True)]
    assert decided(idle, wanted) == Change("d", ("a",))
    assert decided(idle, wanted[:2]) == Change("c", ("a",))


def test_a_small_model_does_not_take_the_room_that_an_overdue_one_waits_for() -> None:
    residents = [Resident("a", 8, 1, 99)]
    wanted = [Wanted("large", 12, since=0), Wanted("small", 2, since=95)]
    assert decided(residents, wanted, most=10) == Change("large", ("a",)), "it has the device for itself"


def test_when_to_look_again() -> None:
    assert next_look(100, [], [Wanted("a", 1, since=90), Wanted("b", 1, since=80)], MAX_WAIT) == 5, "a's patience"
    assert next_look(100, [], [Wanted("b", 1, since=80)], MAX_WAIT) == 10, "b is overdue"
    used = [Resident("c", 1, jobs=0, last_used=73), Resident("d", 1, jobs=1, last_used=72)]
    assert next_look(100, used, [Wanted("b", 1, since=80)], MAX_WAIT) == 3, "c makes room by then, and d is in use"
    assert next_look(100, used, [Wanted("a", 1, since=10)], MAX_WAIT) == 3
    assert next_look(100, [], [Wanted("a", 1, since=10)], MAX_WAIT) is None
    assert next_look(100, used, [], MAX_WAIT) is None, "there is nothing to make room for"


# A daemon in miniature: jobs of some models come; each takes a second, one at a time for each model that is there.


@dataclass
class Miniature:
    most: int
    sizes: dict[str, int]
    load_seconds: float = 5.0
    now: float = 0.0
    residents: dict[str, float] = field(default_factory=dict)  #: and when they were last used
    waiting: list[tuple[str, float]] = field(default_factory=list)
    drawing: dict[str, float] = field(default_factory=dict)  #: until when
    change: Change | None = None
    loaded_at: float | None = None
    loads: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def tick(self) -> None:
        for name in [name for name, until in self.drawing.items() if until <= self.now]:
            del self.drawing[name]
            self.residents[name] = self.now
        if self.change is not None and self.loaded_at is not None and self.loaded_at <= self.now:
            self.residents[self.change.load] = self.now
            self.change = self.loaded_at = None
        leaving = self.change.unload if self.change else ()
        for name in [name for name in self.residents if name not in self.drawing and name not in leaving]:
            mine = next((job for job in self.waiting if job[0] == name), None)
            if mine is not None:
                self.waiting.remove(mine)
                self.waits.append(self.now - mine[1])
                self.drawing[name] = self.now + 1
        if self.change is None:
            self.change = next_change(self.now, self.shown(), self.wanted(), self.most, MAX_WAIT)
        if self.change is not None and self.loaded_at is None and not set(self.change.unload) & set(self.drawing):
            for name in self.change.unload:
                del self.residents[name]
            self.loads.append(self.change.load)
            self.loaded_at = self.now + self.load_seconds

    def shown(self) -> list[Resident]:
        return [
            Resident(name, self.sizes[name], int(name in self.drawing), used) for name, used in self.residents.items()
        ]

    def wanted(self) -> list[Wanted]:
        names = dict.fromkeys(name for name, _ in self.waiting if name not in self.residents)
        return [
            Wanted(name, self.sizes[name], min(since for each, since in self.waiting if each == name)) for name in names
        ]


SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 6), min_size=1)


@given(
    sizes=SIZES, most=st.integers(6, 12), jobs=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5)), max_size=60)
)
def test_every_job_is_drawn_and_no_model_waits_for_ever(
    sizes: dict[str, int], most: int, jobs: list[tuple[int, int]]
) -> None:
    names = sorted(sizes)
    mini = Miniature(most, sizes)
    coming = sorted((second, names[which % len(names)]) for second, which in jobs)
    while coming or mini.waiting or mini.drawing:
        while coming and coming[0][0] <= mini.now:
            second, name = coming.pop(0)
            mini.waiting.append((name, second))
        mini.tick()
        assert sum(sizes[name] for name in mini.residents) <= most
        mini.now += 0.5
        assert mini.now < 5000, "somebody waits for ever"
    assert len(mini.waits) == len(jobs)
    # It may be the last of all models in turn, each of which may be in use until it is overdue itself.
    turns = len(names) * (MAX_WAIT + mini.load_seconds + 1)
    assert max(mini.waits, default=0) <= turns + len(jobs)


@given(order=st.permutations("aaaabbbbcccc"))
def test_no_load_is_repeated_for_nothing(order: list[str]) -> None:
    """All jobs are there from the first moment: each model is loaded once, whatever the order."""
    mini = Miniature(6, {"a": 4, "b": 4, "c": 4})
    mini.waiting = [(name, 0.0) for name in order]
    while mini.waiting or mini.drawing:
        mini.tick()
        mini.now += 0.5
    assert sorted(mini.loads) == ["a", "b", "c"]


def test_what_all_want_stays_while_another_is_loaded_beside_it() -> None:
    mini = Miniature(8, {"a": 4, "b": 4})
    mini.residents = {"a": 0.0}
    mini.waiting = [("a", 0.0)] * 20 + [("b", 0.0)]
    drawn_while_loading = 0
    while "b" not in mini.residents:
        mini.tick()
        drawn_while_loading += "a" in mini.drawing
        mini.now += 0.5
    assert drawn_while_loading >= 8
    assert replace(mini).residents.keys() == {"a", "b"}
