"""A short soak, and proof that a soak can fail: books that do not agree, and marks that grow."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import asdict, evolve
from soak import OBJECTS, Mark, Soak, growth
from soak_books import Belief, Books, Row

from phota_async import EnhancedImage, EnhanceResult, GatewayError, InternalServerError, PhotaError

CALLS = 2000
IMAGE = EnhancedImage(b"an image")


@pytest.mark.slow
@pytest.mark.timeout(180)  # a machine may be busy; a quiet one needs a tenth of it
async def test_two_thousand_calls_with_faults_and_cancellations_leave_nothing_and_agree_with_the_ledger() -> None:
    soak = Soak(1, CALLS)
    await soak.run()
    assert soak.broken == []
    assert soak.marks[-1].calls == CALLS
    # What the promises are about has happened, most of it many times.
    totals, endings = soak.books.totals, soak.books.endings
    assert totals["calls"] > CALLS * 0.95  # all but those of batches that were left before they came to them
    assert totals["faults met"] > CALLS / 200
    assert totals["images delivered"] > CALLS / 2
    assert totals["downloads seen"] > CALLS / 20
    assert totals["charged to calls that were broken off"] > 0
    assert totals["charged to errors that said so"] > 0
    assert endings.keys() >= {"images", "links", "cancelled", "left", "not attempted"}


# ---- books that do not agree


def a_call(error: PhotaError | None = None, **changes: Any) -> Belief:
    """A call that made one request, and landed or met an error."""
    call = Belief.of("key", 1, b"photo", 1)
    call.begun = 1
    if error is None:
        call.landed(EnhanceResult(images=(IMAGE,), request_id="first"))
    else:
        error.attempts = 1
        call.failed(error)
    for name, value in changes.items():
        setattr(call, name, value)
    return call


CALL = a_call()
SOLD = Row("key", CALL.digest, "first", charged=1, delivered=True)
REFUSED = evolve(SOLD, charged=0, delivered=False)
AGAIN = evolve(SOLD, request_id="second", delivered=False)
UNREAD = evolve(REFUSED, photo=None)


def compared(call: Belief, *rows: Row, **changes: Any) -> list[str]:
    told: dict[str, Any] = {
        "quiet": True,
        "leaks": 0,
        "downloads": [],
        "charged": sum(row.charged for row in rows),
        **changes,
    }
    books = Books()
    books.compare([call], {**told, "requests": [asdict(row) for row in rows]})
    return books.wrong


@pytest.mark.parametrize(
    ("call", "rows"),
    [
        (a_call(), [SOLD]),
        (a_call(InternalServerError(500)), [REFUSED]),
        (a_call(InternalServerError(500)), [UNREAD]),
        (a_call(GatewayError(502)), [evolve(SOLD, delivered=False)]),
        (a_call(begun=2, attempts=2, repeats=True, paid_twice=True), [SOLD, AGAIN]),
        (a_call(ending="cancelled", attempts=None, unseen=1), []),
        (a_call(ending="cancelled", attempts=None, unseen=1, maybe_charged=True), [SOLD]),
    ],
)
def test_books_agree_where_all_is_well(call: Belief, rows: list[Row]) -> None:
    assert compared(call, *rows) == []


@pytest.mark.parametrize(
    ("call", "rows", "says"),
    [
        (a_call(), [], "1 requests begun"),
        (a_call(), [SOLD, UNREAD], "1 requests begun"),
        (a_call(), [SOLD, evolve(REFUSED, request_id="second")], "more requests than were begun"),
        (a_call(attempts=2), [SOLD], "another number of attempts"),
        (a_call(), [evolve(SOLD, request_id="another")], "not the answer to this call"),
        (a_call(), [evolve(SOLD, charged=2)], "not the answer to this call"),
        (a_call(begun=2, attempts=2), [SOLD, AGAIN], "bought twice"),
        (a_call(begun=2, attempts=2, repeats=True), [SOLD, AGAIN], "nothing was said"),
        (a_call(InternalServerError(500)), [evolve(SOLD, delivered=False)], "says that it was not"),
        (a_call(GatewayError(502)), [SOLD], "the call failed"),
        (a_call(ending="cancelled", attempts=None, unseen=1), [SOLD], "says that it was not"),
        (a_call(), [SOLD, evolve(SOLD, key="other")], "no call has made"),
        (a_call(ending="links", links=["a.png"], fetched=1), [SOLD], "1 downloads begun, and 0 seen"),
    ],
)
def test_books_that_do_not_agree_are_told(call: Belief, rows: list[Row], says: str) -> None:
    assert says in " ".join(compared(call, *rows))


@pytest.mark.parametrize("changes", [{"quiet": False}, {"leaks": 1}, {"charged": 2}, {"downloads": ["a.png"]}])
def test_a_ledger_that_is_wrong_in_itself_is_told(changes: dict[str, Any]) -> None:
    assert len(compared(a_call(), SOLD, **changes)) == 1


# ---- marks that grow

MARK = Mark(0, 0.0, rss_mb=50.0, descriptors=11, sockets=2, tasks=1, threads=1, pooled=40, objects=40_000)
STEADY = [evolve(MARK, calls=tenth * 10_000) for tenth in range(11)]


def test_marks_that_stay_as_they_are_keep_every_promise() -> None:
    first = evolve(MARK, rss_mb=30.0, objects=20_000, pooled=0)
    some_wait = evolve(STEADY[2], objects=39_000, pooled=20)
    assert list(growth([first, STEADY[1], some_wait, *STEADY[3:]])) == []


@pytest.mark.parametrize(
    "grown",
    [
        {"descriptors": 12},
        {"sockets": 3},
        {"tasks": 2},
        {"threads": 2},
        {"pooled": 100},
        {"objects": 40_001 + OBJECTS},
        {"rss_mb": 52.6},
    ],
)
def test_what_has_grown_is_told(grown: dict[str, Any]) -> None:
    (told,) = growth([*STEADY[:-1], evolve(STEADY[-1], **grown)])
    assert str(100_000) in told
