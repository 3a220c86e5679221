"""The journal as a state machine, with a process that is killed between any two steps and in the middle of one.

A killed process leaves its files as they stand, so a kill is a copy of them that is opened as another folder. In the
middle of a step the log ends anywhere: what was written is there whole then, or not at all.
"""

from __future__ import annotations

import copy
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

import pytest
from attrs import define, evolve, field
from examples import examples
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]  (as shipped)
)

from phota_async.folder.rules import Action, Again, action
from phota_async.journal import LOCK_NAME, NAME, Claim, Entry, Journal, Key, Reserved, items, names, photos, runs, views
from phota_async.journal.items import Answer
from phota_async.journal.runs import Run

# A folder in memory, where that can be had: what is tried is the order of the writing, not the disk.
MEMORY = "/dev/shm"  # noqa: S108  (what is made there has a name that nobody knows)
LINKS = ("https://host/a?signature",)
PRICE = 0.12
KEYS = [Key(letter * 32, 1) for letter in (b"a", b"b")]
SOURCES = [b"/photos/a.jpg", b"/photos/sub/a.png"]  # their images would share a name, and each holds any photo in turn
WHICH, WHERE = st.sampled_from(KEYS), st.sampled_from(SOURCES)
AGAIN = st.builds(Again, failed=st.booleans(), unknown=st.booleans())


def cut_where(chance: int, where: float) -> float | None:
    """Say where in its writing a step is cut by a kill, from 0 to 1; None where it is not."""
    return where if chance == 7 else None


DIES = st.builds(cut_where, st.integers(0, 7), st.floats(0, 1))
SELDOM = st.integers(0, 3)


@define
class Known:
    """What the journal has to know of an item."""

    state: str
    source: bytes
    prior: str | None = None
    links: tuple[str, ...] = ()
    answers: int = 0  # each of which cost money
    kind: str | None = None


@define
class Files:
    """The names of a source's images, and whether they are in place."""

    names: tuple[PurePath, ...]
    written: bool = False


@define
class Model:
    """What the journal has to hold."""

    items: dict[Key, Known] = field(factory=dict[Key, Known])
    files: dict[tuple[bytes, Key], Files] = field(factory=dict[tuple[bytes, Key], Files])
    runs: int = 0

    @property
    def spent(self) -> float:
        return round(sum(known.answers for known in self.items.values()) * PRICE, 6)


def held(connection: sqlite3.Connection) -> Model:
    """Read all that a journal holds."""
    model = Model(runs=connection.execute("SELECT count(*) FROM runs").fetchone()[0])
    for sha256, options, state, source, prior, cost_usd in connection.execute(
        "SELECT sha256, options, state, source, prior, cost_usd FROM items"
    ):
        key = Key(sha256, options)
        item = items.item(key)(connection)
        assert item is not None
        model.items[key] = Known(state, source, prior, item.download_urls, round(cost_usd / PRICE), item.kind)
    for name, source, sha256, options, written in connection.execute(
        "SELECT name, source, sha256, options, written FROM files ORDER BY source, number"
    ):
        before = model.files.get((source, Key(sha256, options)), Files(()))
        every = (*before.names, PurePath(name.decode()))
        model.files[source, Key(sha256, options)] = Files(every, bool(written))
    return model


def standing(folder: Path) -> dict[str, bytes]:
    """Return the files that a process would leave if it were killed now, without what the system lets go of."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in {LOCK_NAME, f"{NAME}-shm"}}


def cut(before: Mapping[str, bytes], after: Mapping[str, bytes], where: float) -> dict[str, bytes]:
    """Return what a kill in the middle of a step leaves: of one file a part is written, from its first byte on.

    The log goes before the database: where that has been touched, the log is whole.
    """
    name = NAME if before[NAME] != after[NAME] else f"{NAME}-wal"
    old, new = before.get(name, b""), after.get(name, b"")
    differing = [place for place in range(0, len(new), 8) if old[place : place + 8] != new[place : place + 8]]
    if not differing:
        return dict(after)
    place = differing[0] + int(where * (differing[-1] + 8 - differing[0]))
    return {**after, name: new[:place] + old[place:]}


class JournalMachine(RuleBasedStateMachine):
    """One folder from run to run. The service's own book tells what was charged, whatever the journal says."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
        self.folders = 0
        self.model = Model()
        self.run: Run | None = None
        self.in_flight: dict[Key, bool] = {}  # whether it is charged
        self.charges = Counter[Key]()
        self.asked_again = Counter[Key]()  # how often buying twice was asked for

    @initialize(left=st.none() | st.binary(max_size=50))
    def begin(self, left: bytes | None) -> None:
        self.folder = self.new_folder({} if left is None else {f"{NAME}-new": left, f"{NAME}-wal": left})
        self.journal = Journal.open(self.folder)

    # ---- runs

    @precondition(lambda self: self.run is None)
    @rule(dies=DIES)
    def begin_run(self, dies: float | None) -> None:
        def doubted(model: Model, _: list[Any]) -> None:
            for known in model.items.values():
                if known.state == "sent":
                    known.state, known.prior, known.links, known.kind = "unknown", None, (), "OutcomeUnknownError"

        def begun(model: Model, _: list[Any]) -> None:
            model.runs += 1

        if self.write(doubted, items.left_by_dead_runs(), items.number_of("options"), dies=dies) is None:
            return
        answer = self.write(begun, runs.begun(1, overwrite=False, stand_in=False), dies=None)
        assert answer is not None
        self.run = answer[0]

    @precondition(lambda self: not self.in_flight)
    @rule(dies=DIES, seldom=SELDOM)
    def close(self, dies: float | None, seldom: int) -> None:
        if seldom < 3:
            return
        if self.run is not None:
            self.journal.write([runs.ended(self.run, complete=True, message=None)])
        before = standing(self.folder)
        self.journal.close()
        self.run = None
        if dies is None:
            assert set(standing(self.folder)) == {NAME}
            self.journal = Journal.open(self.folder)
        else:
            before.pop(f"{NAME}-open", None)  # that goes first
            self.restart(before, [self.model], looked=dies < 0.5)

    @rule(looked=st.booleans(), seldom=SELDOM)
    def be_killed(self, seldom: int, *, looked: bool) -> None:
        if seldom == 3:
            self.journal_is_left(standing(self.folder), [self.model], looked=looked)

    @precondition(lambda self: self.run is not None)
    @rule(key=WHICH, source=WHERE, looked=st.booleans(), seldom=SELDOM)
    def be_killed_within_a_transaction(self, key: Key, source: bytes, seldom: int, *, looked: bool) -> None:
        if seldom < 3:
            return
        left: list[dict[str, bytes]] = []

        def kill(_: sqlite3.Connection) -> None:
            left.append(standing(self.folder))
            raise ZeroDivisionError

        try:
            self.journal.write([items.sent(key, source), items.answered(key, source, self.answer()), kill])
        except ZeroDivisionError:
            assert self.journal.ask(held) == self.model
        self.journal_is_left(left[0], [self.model], looked=looked)

    @rule()
    def look(self) -> None:
        found = views.status(self.folder)
        assert (found.spent_usd, found.running) == (self.model.spent, True)

    # ---- requests

    @precondition(lambda self: self.run is not None)
    @rule(key=WHICH, source=WHERE, again=AGAIN, charged=st.booleans(), dies=DIES)
    def request(self, key: Key, source: bytes, again: Again, *, charged: bool, dies: float | None) -> None:
        item = self.journal.ask(items.item(key))
        in_place = bool(self.journal.ask(photos.files_of(source, key)))
        due = action(item, again, in_place=in_place)
        if key in self.in_flight or due is not Action.SEND or self.reserved(key, source) is None:
            return
        assert again.unknown or not self.charges[key]  # never bought twice unasked
        self.asked_again[key] += self.charges[key] > 0
        self.journal.mark_open()

        def sent(model: Model, _: list[Any]) -> None:
            known = model.items.get(key)
            prior = None if known is None else known.prior if known.state == "sent" else known.state
            model.items[key] = evolve(known or Known("", source), state="sent", source=source, prior=prior)

        if self.write(sent, items.sent(key, source), dies=dies) is not None:
            self.in_flight[key] = charged
            self.charges[key] += charged

    @precondition(lambda self: any(self.in_flight.values()))
    @rule(which=st.integers(0, 2), links=st.booleans(), dies=DIES)
    def be_answered(self, which: int, *, links: bool, dies: float | None) -> None:
        key = self.one_in_flight(which, charged=True)
        source = self.model.items[key].source

        def answered(model: Model, _: list[Any]) -> None:
            count = model.items[key].answers + 1
            model.items[key] = (
                Known("answered", source, None, LINKS, count)
                if links
                else Known("unknown", source, None, (), count, "DownloadError")
            )
            for place, files in model.files.items():
                files.written = files.written and place[1] != key

        self.write(answered, items.answered(key, source, self.answer(links=links)), dies=dies)
        self.in_flight.pop(key, None)

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 2), dies=DIES)
    def be_lost_on_the_way(self, which: int, dies: float | None) -> None:
        key = self.one_in_flight(which)

        def doubted(model: Model, _: list[Any]) -> None:
            known = model.items[key]
            known.state, known.prior, known.links, known.kind = "unknown", None, (), "GatewayError"

        self.write(doubted, items.unknown(key, "why", "GatewayError", None), dies=dies)
        self.in_flight.pop(key, None)

    @precondition(lambda self: not all(self.in_flight.values()))
    @rule(which=st.integers(0, 2), finally_=st.booleans(), dies=DIES)
    def be_refused(self, which: int, *, finally_: bool, dies: float | None) -> None:
        key = self.one_in_flight(which, charged=False)
        source = self.model.items[key].source

        def refused(model: Model, _: list[Any]) -> None:
            known = model.items.pop(key)
            if known.prior is not None:
                model.items[key] = evolve(known, state=known.prior, prior=None)
            if finally_ and (known.prior is None or known.prior == "failed"):
                model.items[key] = evolve(model.items.get(key, Known("failed", source)), kind="APIError")

        more = [items.failed(key, source, "why", "APIError", None)] if finally_ else []
        self.write(refused, items.withdrawn(key), *more, dies=dies)
        self.in_flight.pop(key, None)

    @precondition(lambda self: self.run is not None)
    @rule(key=WHICH, source=WHERE, again=AGAIN, end=st.sampled_from(["links", "images", "lost", "refused"]), dies=DIES)
    def call(self, key: Key, source: bytes, again: Again, end: str, dies: float | None) -> None:
        """Do in a row what makes a whole call."""
        if key in self.in_flight:
            return
        self.request(key=key, source=source, again=again, charged=end != "refused", dies=None)
        if key not in self.in_flight:
            return
        which = [other for other, charged in self.in_flight.items() if charged == self.in_flight[key]].index(key)
        if end == "lost":
            self.be_lost_on_the_way(which=list(self.in_flight).index(key), dies=dies)
        elif end == "refused":
            self.be_refused(which=which, finally_=True, dies=dies)
        else:
            self.be_answered(which=which, links=end == "links", dies=dies)

    @precondition(lambda self: self.run is not None)
    @rule(key=WHICH, source=WHERE, dies=DIES)
    def buy_again_what_is_in_doubt(self, key: Key, source: bytes, dies: float | None) -> None:
        self.call(key=key, source=source, again=Again(unknown=True), end="images", dies=dies)

    @precondition(lambda self: self.run is not None)
    @rule(key=WHICH)
    def withdraw_what_was_never_written_as_sent(self, key: Key) -> None:
        # Where `sent` could not be written, because another program held the journal, it is withdrawn all the same.
        if key not in self.in_flight:
            self.journal.write([items.withdrawn(key)])

    # ---- images

    @precondition(lambda self: self.run is not None)
    @rule(key=WHICH, source=WHERE, dies=DIES)
    def place(self, key: Key, source: bytes, dies: float | None) -> None:
        known = self.model.items.get(key)
        if known is None or not known.answers or known.state == "sent" or key in self.in_flight:
            return
        given_names = self.reserved(key, source)
        if given_names is None:
            return

        def placed(model: Model, _: list[Any]) -> None:
            model.files[source, key] = Files(tuple(given_names), written=True)
            if model.items[key].state != "done":
                model.items[key] = evolve(model.items[key], state="done", source=source, prior=None, kind=None)

        self.write(placed, names.place(self.claim(key, source), given_names), dies=dies)

    @precondition(lambda self: self.run is not None)
    @rule(key=WHICH, dies=DIES)
    def find_the_links_dead(self, key: Key, dies: float | None) -> None:
        def lost(model: Model, _: list[Any]) -> None:
            model.items[key].state, model.items[key].kind = "unknown", "DownloadError"

        known = self.model.items.get(key)
        if known is not None and known.links and known.state in {"answered", "done", "unknown"}:
            self.write(lost, items.lost(key, "why"), dies=dies)

    # ---- what always holds

    @invariant()
    def journal_holds_what_was_written(self) -> None:
        assert self.journal.ask(held) == self.model

    @invariant()
    def what_was_charged_is_remembered_and_nothing_was_bought_twice_unasked(self) -> None:
        for key, charges in self.charges.items():
            assert charges <= 1 + self.asked_again[key]
            if charges and key not in self.in_flight:
                assert self.model.items[key].state in {"answered", "done", "unknown"} | (
                    {"sent"} if self.run is None else set()
                )

    # ---- inside

    def claim(self, key: Key, source: bytes) -> Claim:
        name = PurePath(PurePath(source.decode()).name)
        return Claim(source=source, name=name, key=key, extension=".png", count=1, overwrite=False)

    def answer(self, *, links: bool = True) -> Answer:
        assert self.run is not None
        return Answer(links=LINKS if links else (), request_id="id", cost_usd=PRICE, run=self.run.number)

    def one_in_flight(self, which: int, *, charged: bool | None = None) -> Key:
        keys = [key for key, is_charged in self.in_flight.items() if charged in {None, is_charged}]
        return keys[which % len(keys)]

    def reserved(self, key: Key, source: bytes) -> list[PurePath] | None:
        """Ask for names, which are the same as before or nobody's."""

        def given(model: Model, answers: list[Any]) -> None:
            before = model.files.setdefault((source, key), Files(tuple(answers[0].names)))
            assert list(before.names) == answers[0].names
            every = [name for files in model.files.values() for name in files.names]
            assert len(set(every)) == len(every)

        answers = self.write(given, names.reserve(self.folder, self.claim(key, source), paid=True), dies=None)
        assert answers is not None
        assert isinstance(answers[0], Reserved)
        return answers[0].names

    def write(
        self, change: Callable[[Model, list[Any]], None], *entries: Entry[Any], dies: float | None
    ) -> list[Any] | None:
        """Write entries and ``change`` the model alike; return what they return, or None where the process died."""
        before, old = standing(self.folder) if dies is not None else {}, copy.deepcopy(self.model)
        answers = self.journal.write(entries)
        change(self.model, answers)
        if dies is None:
            return answers
        left = cut(before, standing(self.folder), dies)
        self.journal_is_left(left, [old, self.model], looked=dies < 0.5)
        return None

    def journal_is_left(self, files: Mapping[str, bytes], possible: list[Model], *, looked: bool) -> None:
        self.journal.close()
        self.restart(files, possible, looked=looked)

    def restart(self, files: Mapping[str, bytes], possible: list[Model], *, looked: bool) -> None:
        """Open what a killed process left: it is one of what is possible, and nothing in between."""
        self.run, self.in_flight, self.folder = None, {}, self.new_folder(files)
        if looked and NAME in files:
            found = views.status(self.folder)
            assert found.spent_usd in [model.spent for model in possible]
            assert not found.running
        self.journal = Journal.open(self.folder)
        model = self.journal.ask(held)
        assert model in possible
        self.model = model

    def new_folder(self, files: Mapping[str, bytes]) -> Path:
        self.folders += 1
        folder = self.root / str(self.folders)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
        shutil.rmtree(self.root)


def test_what_was_written_is_kept_whole_whenever_the_process_is_killed() -> None:
    run_state_machine_as_test(JournalMachine, settings=examples(50, steps=50))


@pytest.mark.parametrize("state", ["answered", "done", "unknown", "failed"])
def test_what_was_never_written_as_sent_is_withdrawn_without_a_trace(tmp_path: Path, state: str) -> None:
    # Another program held the journal when `sent` was to be written, and not any more a moment later.
    with Journal.open(tmp_path) as journal:
        journal.write([items.failed(KEYS[0], SOURCES[0], "why", "APIError", None)])
        journal.write([lambda connection: connection.execute("UPDATE items SET state = ?, cost_usd = 0.12", [state])])
        before = journal.ask(items.item(KEYS[0]))
        journal.write([items.withdrawn(KEYS[0])])
        assert before is not None
        assert journal.ask(items.item(KEYS[0])) == before
