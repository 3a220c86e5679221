"""Workers that are killed between any two steps, stores that fail, lose and lie: what is paid is not paid again."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import evolve, field, frozen
from obstore.store import MemoryStore
from ray_workers import FOLDER, Workers, batch_of, desk_of, rows_of, small_photo, states

from phota_async import InsufficientCreditsError, RetryPolicy, Timeout
from phota_async.batch import Gate, NotStartedError
from phota_async.models import EnhancedImage, EnhanceResult
from phota_async.ray import rules
from phota_async.ray.buyer import Buyer
from phota_async.ray.desk import Desk, Served
from phota_async.ray.purchase import Purchase
from phota_async.ray.records import DAMAGED, Claim, ClaimState, Record, Stored, read_claim, read_record, written
from phota_async.ray.rules import View
from phota_async.ray.shelf import Shelf
from phota_async.ray.store import PAUSES, TO_WRITE, Store, StoreError, open_store
from phota_async.ray.threads import in_thread
from phota_async.ray.unwritten import Unwritten
from phota_async.ray.waiting import Waiting
from phota_async.sandbox import Fault

T = TypeVar("T")

DRIVER = Path(__file__).with_name("ray_driver.py")


# ---- workers that are killed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "when", "state", "charged"),
    [
        (0, "before", "enhanced", 1),  # nothing was done
        (0, "after", "enhanced", 1),  # looked
        (1, "before", "enhanced", 1),
        (1, "after", "unknown", 0),  # claimed, nothing sent: which nobody else can know
        (2, "before", "unknown", 1),  # answered
        (2, "after", "unknown", 1),  # its image written
        (3, "before", "unknown", 1),
        (3, "after", "enhanced", 1),  # recorded
    ],
)
def test_a_worker_that_is_killed_at_any_step_costs_at_most_what_was_in_flight(
    operation: int, when: str, state: str, charged: int, workers: Workers
) -> None:
    command = [sys.executable, str(DRIVER), workers.box.url, str(workers.store), str(operation), when]
    done = subprocess.run(command, check=False, timeout=30)  # noqa: S603
    assert done.returncode == -signal.SIGKILL
    rows = workers.run(1, patience=0.3)
    assert states(rows) == [state]
    assert workers.box.ledger.charged_images == charged
    # Once it is taken for lost, nobody waits for it again.
    begun = time.monotonic()
    assert workers.run(1) == rows
    assert states(workers.run(1, retry_unknown=True)) == ["enhanced"]
    assert time.monotonic() - begun < 10
    assert workers.box.ledger.charged_images == charged + (state == "unknown")


def test_the_driver_lives_where_it_is_not_to_die(workers: Workers) -> None:
    command = [sys.executable, str(DRIVER), workers.box.url, str(workers.store), "4", "before"]
    assert subprocess.run(command, check=False, timeout=30).returncode == 0  # noqa: S603
    assert (states(workers.run(1)), workers.charges) == (["enhanced"], [1])


def test_who_waits_for_a_dead_worker_keeps_no_other_photo_waiting(workers: Workers) -> None:
    command = [sys.executable, str(DRIVER), workers.box.url, str(workers.store), "1", "after"]
    subprocess.run(command, check=False, timeout=30)  # noqa: S603
    with ThreadPoolExecutor() as pool:
        done = pool.submit(workers.hire(max_concurrency=1, patience=5), batch_of(1, 2, 3))
        assert workers.box.ledger.wait(lambda ledger: ledger.charged_images == 2, timeout=5)
        assert not done.done()
        assert states(rows_of(done.result())) == ["unknown", "enhanced", "enhanced"]


# ---- what becomes of what is stored


@pytest.mark.parametrize("harm", ["missing", "shorter", "other"])
def test_an_image_that_is_not_what_was_stored_is_lost_and_not_bought_again_unasked(harm: str, workers: Workers) -> None:
    (row,) = workers.run(1)
    (image,) = workers.files("claim-1-image-0.png")
    if harm == "missing":
        image.unlink()
    else:
        image.write_bytes(row["image"][:-1] + b"?" * (harm == "other"))
    (lost,) = workers.run(1)
    assert (lost["state"], lost["image"], lost["error"]) == ("unknown", b"", rules.LOST)
    assert (lost["request_id"], workers.charges) == (row["request_id"], [1])
    (again,) = workers.run(1, retry_unknown=True)
    assert (again["state"], again["image"], workers.charges) == ("enhanced", row["image"], [2])
    assert workers.files("claim-2-image-0.png")


def test_of_several_images_those_that_are_intact_are_handed_over(workers: Workers) -> None:
    rows = workers.run(1, num_output_images=4)
    workers.files("claim-1-image-2.png")[0].unlink()
    left = workers.run(1, num_output_images=4)
    assert [(row["state"], row["image"]) for row in left] == [("unknown", rows[place]["image"]) for place in (0, 1, 3)]
    assert round(sum(row["spend_usd"] for row in left), 6) == 0.48
    assert workers.charges == [4]


def test_a_refusal_after_a_loss_does_not_end_the_doubt(workers: Workers) -> None:
    workers.run(1)
    workers.files("claim-1-image-0.png")[0].unlink()
    workers.box.script(Fault(status=400))
    assert states(workers.run(1, retry_unknown=True)) == ["unknown"]
    (left,) = workers.run(1)
    assert (left["state"], len(workers.box.ledger.requests)) == ("unknown", 2)
    assert left["error"].startswith(rules.DOUBT)


TOLD: dict[str, Any] = {"at": 1.0, "by": "", "word": "", "images": [], "links": [], "cost_usd": 0.1}
NO_IMAGES: list[Any] = ["abc", {}, ["a"], [{"name": 1, "sha256": ""}], [{}]]
WRONG = [
    *("", "{", "[]", "{}", '{"images": [], "links": []}', "[" * 100_000),
    *(json.dumps({**TOLD, "at": at}) for at in ("x", None, True, -1, 10**400, float("nan"))),
    *(json.dumps({**TOLD, "images": images}) for images in NO_IMAGES),
    json.dumps({**TOLD, "request_id": 5}),
]


@pytest.mark.parametrize("content", WRONG)
def test_what_is_wrong_in_any_way_is_damaged(content: str) -> None:
    assert read_record(7, content.encode()) == Record(number=7, at=0.0)
    assert read_claim(7, content.encode()).reason == DAMAGED


@pytest.mark.parametrize("wrong", [{"links": "abc"}, {"links": [1]}, {"cost_usd": None}, {"cost_usd": "0.12"}])
def test_a_record_is_read_strictly(wrong: dict[str, Any]) -> None:
    assert read_record(7, json.dumps({**TOLD, **wrong}).encode()) == Record(number=7, at=0.0)


@pytest.mark.parametrize("wrong", [{"state": "paid"}, {"word": 1}, {"by": None}, {"reason": 5}])
def test_a_claim_is_read_strictly(wrong: dict[str, Any]) -> None:
    assert read_claim(7, json.dumps({**TOLD, **wrong}).encode()).reason == DAMAGED


def test_what_a_newer_version_adds_is_ignored() -> None:
    image = {"name": "a", "sha256": "b", "width": 5}
    content = json.dumps({**TOLD, "number": 3, "images": [image], "seed": 5}).encode()
    assert read_record(7, content) == Record(number=7, at=1.0, cost_usd=0.1, images=(Stored("a", "b"),))
    assert read_claim(7, content) == Claim(number=7, word="", at=1.0, images=(Stored("a", "b"),))


@pytest.mark.parametrize("content", ["", '{"at": "x", "images": [], "links": []}'])
def test_a_record_that_cannot_be_read_is_a_loss(content: str, workers: Workers) -> None:
    workers.run(1)
    (record,) = workers.files("record-*.json")
    record.write_text(content)
    (row,) = workers.run(1)
    assert (row["state"], row["error"], workers.charges) == ("unknown", rules.LOST, [1])
    assert states(workers.run(1, retry_unknown=True)) == states(workers.run(1)) == ["enhanced"]
    assert workers.charges == [2]


def test_a_claim_that_cannot_be_read_is_a_doubt(workers: Workers) -> None:
    workers.box.script(Fault(status=400))
    workers.run(1)
    (claim,) = workers.files("claim-1.json")
    claim.write_text("{")
    (row,) = workers.run(1)
    assert (row["state"], row["error"], len(workers.box.ledger.requests)) == ("unknown", DAMAGED, 1)
    assert states(workers.run(1, retry_unknown=True)) == ["enhanced"]


# ---- stores that fail


def test_where_the_store_cannot_be_used_nothing_is_sent(workers: Workers) -> None:
    worker = workers.hire()
    workers.store.rmdir()
    workers.store.write_text("no directory")
    rows = rows_of(worker(batch_of(1, 2)))
    assert states(rows) == ["not_attempted"] * 2
    assert all("the store cannot list" in row["error"] for row in rows)
    assert workers.box.ledger.requests == []


def test_where_no_claim_can_be_made_nothing_is_sent(workers: Workers) -> None:
    (workers.store / FOLDER / "claim-1.json").mkdir(parents=True)
    (row,) = workers.run(1, patience=0.3)
    assert (row["state"], workers.box.ledger.requests) == ("not_attempted", [])
    assert row["error"] == f"the store holds a claim in {FOLDER} and does not show it"


def test_where_a_claim_cannot_be_written_nothing_is_sent(workers: Workers) -> None:
    worker = workers.hire()
    folder = workers.store / FOLDER
    folder.parent.mkdir(parents=True)
    folder.symlink_to(workers.store / "nowhere")
    (row,) = rows_of(worker(batch_of(1)))
    assert (row["state"], workers.box.ledger.requests) == ("not_attempted", [])
    assert "the store cannot write" in row["error"]


async def test_a_store_that_is_no_directory_keeps_the_same_rules() -> None:
    store = Store(MemoryStore())
    created = await asyncio.gather(*[store.create("a/b/one", b"%d" % number) for number in range(9)])
    assert created.count(True) == 1
    await store.put("a/b/two", b"2")
    assert (await store.names("a/b"), await store.names("a")) == (["one", "two"], [])
    assert (await store.get("a/b/two"), await store.get("a/b/three")) == (b"2", None)


def test_what_is_written_to_a_directory_is_made_safe_with_the_folders_that_name_it(tmp_path: Path) -> None:
    # In a process of its own: who listens there listens to its end.
    script = """
import asyncio, sys
from phota_async.ray.store import open_store
opened = []
sys.addaudithook(lambda event, facts: opened.append(str(facts[0])) if event == "open" and facts[1] is None else None)
store = open_store(sys.argv[1])
asyncio.run(getattr(store, sys.argv[2])("a/b/object", b"content"))
print("\\n".join(opened))
"""
    for verb in ("create", "put"):
        root = tmp_path / verb
        command = [sys.executable, "-c", script, str(root), verb]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
        expected = [root / "a/b/object", root / "a/b", root / "a", root]
        assert [line for line in done.stdout.splitlines() if line.startswith(str(root))] == [*map(str, expected)]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EIO])
@pytest.mark.parametrize("unable", [stat.S_ISDIR, stat.S_ISREG])
async def test_a_file_system_may_be_unable_to_flush_folders_but_not_files(
    unable: Callable[[int], bool], number: int, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = os.fsync

    def fsync(handle: int) -> None:
        if unable(os.fstat(handle).st_mode):
            raise OSError(number, "not here")
        usual(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    passes = unable is stat.S_ISDIR and number != errno.EIO
    with nullcontext() if passes else pytest.raises(StoreError, match=r"cannot write a/object: .*not here"):
        await desk.store.put("a/object", b"")


class Warned(logging.Handler):
    """Tells when something was said often enough."""

    def __init__(self, words: str, times: int) -> None:
        super().__init__()
        self.words, self.left, self.reached = words, times, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.left -= self.words in record.getMessage()
        if not self.left:
            self.reached.set()


@pytest.fixture
def warned() -> Iterator[Warned]:
    handler, logger = Warned("tried again", 2), logging.getLogger("phota_async")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def vanish(store: Path) -> Path:
    """Take a store away, and put something useless in its place."""
    elsewhere = store.rename(store.with_name("elsewhere"))
    store.write_text("no directory")
    return elsewhere


def test_a_store_that_comes_back_gets_what_was_paid_for(workers: Workers, warned: Warned) -> None:
    workers.box.script(Fault(stall=0.5))
    with ThreadPoolExecutor() as pool:
        done = pool.submit(workers.hire(), batch_of(1))
        assert workers.box.ledger.wait(lambda ledger: ledger.in_flight)
        elsewhere = vanish(workers.store)
        assert warned.reached.wait(10)
        workers.store.unlink()
        elsewhere.rename(workers.store)
        rows = rows_of(done.result())
    assert (states(rows), rows[0]["error"]) == (["enhanced"], "")
    assert workers.run(1) == rows
    assert workers.charges == [1]


@pytest.mark.slow
def test_what_is_paid_for_is_handed_over_and_written_when_the_store_takes_it(workers: Workers) -> None:
    workers.box.script(Fault(stall=0.5))
    worker = workers.hire()
    with ThreadPoolExecutor() as pool:
        done = pool.submit(worker, batch_of(1))
        assert workers.box.ledger.wait(lambda ledger: ledger.in_flight)
        elsewhere = vanish(workers.store)
        (row,) = rows_of(done.result())
    assert (row["state"], row["image"][:4], row["spend_usd"]) == ("enhanced", b"\x89PNG", 0.12)
    assert row["error"].startswith("paid for, and not written to the store (the store cannot write")
    workers.store.unlink()
    elsewhere.rename(workers.store)
    assert states(rows_of(worker(batch_of(2)))) == ["enhanced"]
    assert workers.run(1) == [{**row, "error": ""}]
    assert workers.charges == [1, 1]


@frozen(eq=False)
class Failing(Store):
    """A store that takes nothing whose name has one of these in it."""

    refused: set[str] = field(factory=set[str])

    async def put(self, name: str, content: bytes) -> None:
        if any(part in name for part in self.refused):
            raise StoreError(f"the store cannot write {name}: it is full")
        await super().put(name, content)


def failing(desk: Desk, *refused: str, **options: Any) -> tuple[Desk, set[str]]:
    store = Failing(desk.store.objects, refused={*refused}, pauses=(0.0,))
    return evolve(desk, store=store, **options), store.refused


async def batch_at(desk: Desk, *numbers: int) -> list[Served]:
    """Let photos be served as one batch."""
    gate = Gate()
    await desk.begin(gate)
    return [*await asyncio.gather(*[desk.serve(f"{FOLDER}/{one}", small_photo(one), gate) for one in numbers])]


async def test_while_the_store_does_not_take_what_is_paid_for_nothing_is_bought(workers: Workers, desk: Desk) -> None:
    desk, refused = failing(desk, "image", width=1)
    served = await batch_at(desk, 1, 2, 3)
    assert sorted(one.state for one in served) == ["enhanced", "not_attempted", "not_attempted"]
    ((bought, images),) = [(number, one.images) for number, one in enumerate(served, 1) if one.images]
    assert served[bought - 1].error.endswith("it is full): keep what this row holds")
    assert [one.state for one in await batch_at(desk, 1, 2, 3, 4)] == ["not_attempted"] * 4
    assert workers.charges == [1]
    refused.clear()
    again = await batch_at(desk, 1, 2, 3, 4)
    assert [(one.state, one.cost_usd) for one in again] == [("enhanced", 0.12)] * 4
    assert (again[bought - 1].images, workers.charges) == (images, [1] * 4)


async def test_a_batch_that_runs_stops_buying_while_another_ones_photo_is_kept(workers: Workers, desk: Desk) -> None:
    desk, refused = failing(desk, "record", width=1)
    served = await asyncio.gather(*[desk.serve(f"{FOLDER}/{one}", small_photo(one), Gate()) for one in (1, 2)])
    assert sorted(one.state for one in served) == ["enhanced", "not_attempted"]
    assert workers.charges == [1]
    refused.clear()
    served = await asyncio.gather(*[desk.serve(f"{FOLDER}/{one}", small_photo(one), Gate()) for one in (1, 2, 3)])
    assert [(one.state, one.cost_usd) for one in served] == [("enhanced", 0.12)] * 3
    assert (workers.charges, len(workers.files("record-1.json"))) == ([1] * 3, 3)


@pytest.mark.parametrize("retry_unknown", [0, 1])
@pytest.mark.parametrize("given_up", [False, True])
async def test_a_photo_is_not_given_up_nor_bought_again_by_who_keeps_it(
    given_up: bool,  # noqa: FBT001
    retry_unknown: int,
    workers: Workers,
    desk: Desk,
) -> None:
    keeping, refused = failing(desk, "record", patience=0.1, retry_unknown=retry_unknown)
    kept = await keeping.serve(FOLDER, small_photo(1), Gate())
    if given_up:
        assert (await evolve(desk, patience=0.1).serve(FOLDER, small_photo(1), Gate())).state == "unknown"
    assert (await keeping.serve(FOLDER, small_photo(1), Gate())).state == "not_attempted"
    refused.clear()
    served = await keeping.serve(FOLDER, small_photo(1), Gate())
    assert (served.state, served.images, served.cost_usd) == ("enhanced", kept.images, 0.12)
    assert (workers.charges, len(workers.files("*silent.json"))) == ([1], given_up)


async def test_who_is_stopped_while_what_is_kept_is_written_leaves_it_kept(desk: Desk) -> None:
    store = Hanging(desk.store.objects)
    desk, gate = evolve(desk, store=store, width=1), Gate()
    writing = asyncio.create_task(desk.unwritten.write({"a/b": b"1"}))
    await store.asked.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert not desk.unwritten.is_empty
    store.asked.clear()
    serving = asyncio.create_task(desk.serve(FOLDER, small_photo(1), gate))
    await store.asked.wait()
    gate.close(StoreError("stopped"))
    assert (await serving).error == "stopped"
    assert not desk.unwritten.is_empty


async def test_what_is_paid_for_is_kept_whatever_happens_to_its_writing(workers: Workers, desk: Desk) -> None:
    store, buyer = Buggy(desk.store.objects), Closing(base_url=workers.box.url)
    desk = evolve(desk, store=store, buyer=buyer)
    with pytest.raises(ZeroDivisionError):
        await batch_at(desk, 1)
    with pytest.raises(ZeroDivisionError):
        await desk.end()
    assert buyer.closed
    store.bugs.clear()
    (served,) = await batch_at(desk, 1)
    assert (served.state, served.cost_usd, workers.charges) == ("enhanced", 0.12, [1])


@pytest.fixture
def no_threads() -> Iterator[None]:
    """Let no thread begin: there is no room for the stack that each is to have."""
    usual = threading.stack_size(2**50)
    yield
    threading.stack_size(usual)


@pytest.mark.usefixtures("no_threads")
async def test_where_no_thread_can_be_had_it_is_done_in_place() -> None:
    with pytest.raises(RuntimeError, match="can't start new thread"):
        threading.Thread().start()
    assert await in_thread(threading.current_thread) is threading.main_thread()
    with pytest.raises(RuntimeError, match="its own"):
        await in_thread(its_own)


def its_own() -> None:
    raise RuntimeError("its own")


@pytest.mark.usefixtures("workers", "desk", "no_threads")
async def test_what_is_paid_for_is_recorded_and_found_also_without_threads(workers: Workers, desk: Desk) -> None:
    purchase = Purchase(desk.store, desk.unwritten, FOLDER, "a worker", View(), Gate())
    async with purchase.request(lambda: True):
        pass
    await purchase.keep(EnhanceResult((EnhancedImage(b"an image"),)), 0.12)
    assert (purchase.problem, len(workers.files("record-1.json"))) == (None, 1)
    served = await desk.serve(FOLDER, small_photo(1), Gate())
    assert (served.state, served.images, served.cost_usd) == ("enhanced", (b"an image",), 0.12)


async def test_the_end_of_a_worker_writes_what_is_paid_for_or_tells_of_it(
    workers: Workers, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk, refused = failing(desk, "record")
    await batch_at(desk, 1)
    await desk.end()
    assert "paid for, and lost with its worker: the store cannot write" in caplog.text
    refused.clear()
    await desk.end()
    assert (len(workers.files("record-1.json")), workers.charges) == (1, [1])


async def test_a_doubt_that_cannot_be_written_stays_one(workers: Workers, desk: Desk) -> None:
    workers.box.script(Fault(reset="after", charged=True))
    policy = RetryPolicy(initial_wait=0, retry_unknown=True)
    async with Buyer(base_url=workers.box.url, retry=policy) as buyer:
        unable, _ = failing(desk, "claim-1.json", buyer=buyer)
        (served,) = await batch_at(unable, 1)
    # There was no other attempt: the batch had ended.
    assert (served.state, len(workers.box.ledger.requests)) == ("unknown", 1)
    assert "(may have been charged); and that is not written to the store (the store cannot write" in served.error
    (silent,) = await batch_at(evolve(desk, patience=0.1), 1)
    assert (silent.state, silent.error) == ("unknown", rules.SILENT.format(patience=0.1))
    assert workers.charges == [1]


async def test_a_refusal_is_told_also_where_the_store_does_not_give_what_is_left(workers: Workers, desk: Desk) -> None:
    workers.box.script(Fault(status=400))
    await desk.store.put(f"{FOLDER}/1/claim-1.json", written(CLAIM))
    await desk.store.put(f"{FOLDER}/1/x", b"")
    store = Unreadable(desk.store.objects)
    (served,) = await batch_at(evolve(desk, store=store, retry_unknown=1), 1)
    assert (served.state, served.images) == ("unknown", ())
    assert "400" in served.error


async def test_a_record_is_tried_to_be_written_again(workers: Workers, desk: Desk) -> None:
    desk = evolve(desk, store=Once(desk.store.objects, pauses=(0.0,)))
    (served,) = await batch_at(desk, 1)
    assert (served.state, served.error, len(workers.files("record-1.json"))) == ("enhanced", "", 1)


async def test_a_store_that_hangs_is_waited_for_no_longer_than_others_wait_for_the_answer(desk: Desk) -> None:
    unwritten = Unwritten(Hanging(desk.store.objects), within=0.05)
    for writing in (unwritten.write({"a/b": b"1"}), unwritten.catch_up()):
        with pytest.raises(StoreError, match=r"the store has not taken a/b within 0.05 s"):
            await writing
    assert Unwritten(desk.store).within == TO_WRITE
    assert rules.patience(630) > 630 + TO_WRITE
    assert rules.patience(None) > 600 + TO_WRITE


def test_an_object_stores_client_does_not_go_on_for_longer_than_its_worker_has() -> None:
    objects: Any = open_store("s3://bucket/prefix").objects
    assert objects.retry_config["max_retries"] == 3
    assert objects.retry_config["retry_timeout"].total_seconds() <= TO_WRITE / 5


def test_what_is_paid_for_is_tried_to_be_written_for_some_seconds() -> None:
    assert 5 < sum(PAUSES) < 30


async def test_no_hash_of_an_image_is_made_on_the_event_loop(workers: Workers, desk: Desk) -> None:
    hashed: list[str] = []
    sys.setprofile(
        lambda _, event, called: (
            hashed.append(called.__name__)
            if event == "c_call" and "sha256" in getattr(called, "__name__", "")
            else None
        )
    )
    try:
        hashlib.sha256(b"")
        for _ in range(2):
            await batch_at(desk, 1)
    finally:
        sys.setprofile(None)
    assert len(hashed) == 1  # the one above, which shows that it would be seen
    assert workers.charges == [1]


@frozen(eq=False)
class Crowded(Store):
    """A store that tells how many photos were looked for or read at once."""

    now: list[str] = field(factory=list[str])
    widths: list[int] = field(factory=list[int])

    async def names(self, folder: str) -> list[str]:
        return await self._counted(folder, super().names(folder))

    async def get(self, name: str) -> bytes | None:
        return await self._counted(name.rpartition("/")[0], super().get(name))

    async def _counted(self, folder: str, reading: Awaitable[T]) -> T:
        self.now.append(folder)
        self.widths.append(len({*self.now}))
        try:
            return await reading
        finally:
            self.now.remove(folder)


async def test_no_more_photos_are_read_at_once_than_are_bought_at_once(workers: Workers, desk: Desk) -> None:
    bought = await batch_at(desk, *range(20))
    for lost in workers.files("claim-1-image-0.png")[:10]:
        lost.unlink()
    store = Crowded(desk.store.objects)
    again = await batch_at(evolve(desk, store=store, width=3), *range(20))
    assert sorted(one.state for one in again) == ["enhanced"] * 10 + ["unknown"] * 10
    assert all(one == before for one, before in zip(again, bought, strict=True) if one.state == "enhanced")
    assert max(store.widths) == 3


# ---- claims at the same moment


@frozen(eq=False)
class Unreachable(Store):
    """A store that answers nobody."""

    asked: list[str] = field(factory=list[str])

    async def names(self, folder: str) -> list[str]:
        self.asked.append(folder)
        await asyncio.sleep(0)
        raise StoreError(f"the store cannot list {folder}: it is down")


async def test_a_store_that_is_down_is_not_asked_for_every_photo_also_after_an_accounts_error(desk: Desk) -> None:
    store, gate = Unreachable(desk.store.objects), Gate()
    gate.close(InsufficientCreditsError(402))
    desk = evolve(desk, store=store)
    served = await asyncio.gather(*(desk.serve(f"photo-{number}", b"", gate) for number in range(64)))
    assert {one.state for one in served} == {"not_attempted"}
    assert len(store.asked) <= desk.width


@frozen(eq=False)
class Meeting(Store):
    """A store whose first claims are made at the same moment by so many workers."""

    all_here: asyncio.Barrier

    async def create(self, name: str, content: bytes) -> bool:
        if name.endswith("claim-1.json"):
            await self.all_here.wait()
            await self.all_here.wait()
        return await super().create(name, content)


@frozen(eq=False)
class Forgetful(Store):
    """A store that takes one object and says that it was there: its answer was lost, and it was asked again."""

    names_taken: list[str] = field(factory=list[str])

    async def create(self, name: str, content: bytes) -> bool:
        created = await super().create(name, content)
        self.names_taken.append(name)
        return created and len(self.names_taken) > 1


@frozen(eq=False)
class Breaking(Store):
    """A store whose creations fail: so many of them before, and so many after the object is written."""

    before: int = 0
    after: int = 0
    tries: count[int] = field(factory=lambda: count(1))

    async def create(self, name: str, content: bytes) -> bool:
        number = next(self.tries)
        if number <= self.before:
            raise StoreError("the connection was lost")
        created = await super().create(name, content)
        if number <= self.before + self.after:
            raise StoreError("the connection was lost")
        return created


@frozen(eq=False)
class Once(Store):
    """A store that takes no record at the first time."""

    names_refused: set[str] = field(factory=set[str])

    async def put(self, name: str, content: bytes) -> None:
        if "record" in name and name not in self.names_refused:
            self.names_refused.add(name)
            raise StoreError("try again")
        await super().put(name, content)


@frozen(eq=False)
class Hanging(Store):
    """A store that never says whether it has taken something."""

    asked: asyncio.Event = field(factory=asyncio.Event)

    async def put(self, name: str, content: bytes) -> None:
        del name, content
        self.asked.set()
        await asyncio.Event().wait()


@frozen(eq=False)
class Buggy(Store):
    """A store that has a bug with records."""

    bugs: set[str] = field(factory=lambda: {"record"})

    async def put(self, name: str, content: bytes) -> None:
        if any(bug in name for bug in self.bugs):
            raise ZeroDivisionError
        await super().put(name, content)


class Closing(Buyer):
    """A client that tells whether it was closed."""

    closed = False

    async def aclose(self) -> None:
        await super().aclose()
        self.closed = True


@frozen(eq=False)
class Slow(Store):
    """A store that takes a claim, or does not, and says so much later."""

    fails: bool = False
    asked: asyncio.Event = field(factory=asyncio.Event)
    answer: asyncio.Event = field(factory=asyncio.Event)

    async def create(self, name: str, content: bytes) -> bool:
        created = await super().create(name, content)
        self.asked.set()
        await self.answer.wait()
        if self.fails:
            raise StoreError("the connection was lost")
        return created

    async def names(self, folder: str) -> list[str]:
        if self.fails and self.asked.is_set():
            raise StoreError("the connection was lost")
        return await super().names(folder)


@frozen(eq=False)
class Cut(Store):
    """A store that is out of reach from the first claim on, in whose stead it may hold nothing or another's."""

    holds: str
    reachable: asyncio.Event = field(factory=asyncio.Event)
    tried: list[str] = field(factory=list[str])

    async def create(self, name: str, content: bytes) -> bool:
        if not self.tried and self.holds != "nothing":
            await super().create(name, content if self.holds == "its own" else written(OTHERS))
        self.tried.append(name)
        self._reach()
        return await super().create(name, content)

    async def names(self, folder: str) -> list[str]:
        self._reach()
        return await super().names(folder)

    async def get(self, name: str) -> bytes | None:
        self._reach()
        return await super().get(name)

    def _reach(self) -> None:
        if self.tried and not self.reachable.is_set():
            raise StoreError("out of reach")


@frozen(eq=False)
class Unreadable(Store):
    """A store that gives no image."""

    async def get(self, name: str) -> bytes | None:
        if name.endswith("/x"):
            raise StoreError("the connection was lost")
        return await super().get(name)


CLAIM = Claim(number=1, word="x", at=1.0, state="unknown", images=(Stored("x", hashlib.sha256(b"").hexdigest()),))

OTHERS = Claim(number=1, word="another's", at=1.0, state="refused", reason="another's")


@pytest.fixture
async def desk(workers: Workers) -> AsyncIterator[Desk]:
    async with Buyer(base_url=workers.box.url) as buyer:
        yield desk_of(await asyncio.to_thread(open_store, workers.store), buyer, patience=20)


async def test_a_store_that_fails_for_one_photo_stops_its_batch(workers: Workers, desk: Desk) -> None:
    gate = Gate()
    (workers.store / "broken").symlink_to(workers.store / "nowhere")
    served = [await desk.serve(folder, small_photo(1), gate) for folder in ("broken", FOLDER)]
    assert [one.state for one in served] == ["not_attempted"] * 2
    assert served[0].error == served[1].error
    assert (await desk.serve(FOLDER, small_photo(1), Gate())).state == "enhanced"


async def test_an_accounts_error_sends_away_who_has_a_turn_and_no_slot(workers: Workers, desk: Desk) -> None:
    workers.box.script(Fault(status=401))
    async with Buyer(base_url=workers.box.url, max_concurrency=1) as buyer:
        served = await batch_at(evolve(desk, buyer=buyer), 1, 2)
    assert sorted(one.state for one in served) == ["failed", "not_attempted"]
    assert len(workers.box.ledger.requests) == 1


async def test_of_workers_that_claim_at_the_same_moment_one_buys(workers: Workers, desk: Desk) -> None:
    desk = evolve(desk, store=Meeting(desk.store.objects, asyncio.Barrier(3)))
    served = await asyncio.gather(*[desk.serve(FOLDER, small_photo(1), Gate()) for _ in range(3)])
    assert [one.state for one in served] == ["enhanced"] * 3
    assert len({one.images for one in served}) == 1
    assert workers.charges == [1]


async def test_of_workers_that_take_another_for_dead_one_buys(workers: Workers, desk: Desk) -> None:
    workers.box.script(Fault(stall=1000))
    forgotten = asyncio.create_task(desk.serve(FOLDER, small_photo(1), Gate()))
    assert await asyncio.to_thread(workers.box.ledger.wait, lambda ledger: ledger.in_flight)
    heirs = evolve(desk, patience=0.3, retry_unknown=True)
    served = await asyncio.gather(*[heirs.serve(FOLDER, small_photo(1), Gate()) for _ in range(3)])
    assert [one.state for one in served] == ["enhanced"] * 3
    assert workers.charges == [1]
    assert len(workers.box.ledger.requests) == 2
    forgotten.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forgotten


async def test_a_claim_whose_answer_was_lost_is_known_again(workers: Workers, desk: Desk) -> None:
    store = Forgetful(desk.store.objects)
    served = await evolve(desk, store=store).serve(FOLDER, small_photo(1), Gate())
    assert (served.state, workers.charges, len(store.names_taken)) == ("enhanced", [1], 1)


@pytest.mark.parametrize(("before", "after", "tries"), [(0, 1, 1), (1, 0, 2)])
async def test_a_claim_whose_writing_failed_is_looked_for_and_tried_again(
    before: int, after: int, tries: int, workers: Workers, desk: Desk
) -> None:
    store = Breaking(desk.store.objects, before, after, pauses=(0.0,))
    (served,) = await batch_at(evolve(desk, store=store), 1)
    assert (served.state, workers.charges, next(store.tries)) == ("enhanced", [1], tries + 1)


async def test_a_claim_that_cannot_be_written_the_second_time_either_stops_the_batch(
    workers: Workers, desk: Desk
) -> None:
    (served,) = await batch_at(evolve(desk, store=Breaking(desk.store.objects, 2, pauses=(0.0,))), 1)
    assert (served.state, served.error) == ("not_attempted", "the connection was lost")
    assert (workers.claims(), workers.box.ledger.requests) == ([], [])


async def test_a_deadline_that_passes_while_a_claim_is_made_leaves_none_as_sent(workers: Workers, desk: Desk) -> None:
    store = Slow(desk.store.objects)
    async with Buyer(base_url=workers.box.url, timeout=Timeout(overall=0.5)) as buyer:
        asyncio.get_running_loop().call_later(0.8, store.answer.set)
        (served,) = await batch_at(evolve(desk, buyer=buyer, store=store), 1)
    assert (served.state, served.cost_usd, workers.claims()) == ("failed", 0.0, ["refused"])
    assert workers.box.ledger.requests == []
    assert [one.state for one in await batch_at(desk, 1)] == ["enhanced"]


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_while_a_claim_is_made_leaves_none_as_sent(
    fails: bool,  # noqa: FBT001
    workers: Workers,
    desk: Desk,
) -> None:
    store = Slow(desk.store.objects, fails)
    slow = evolve(desk, store=store)
    serving = asyncio.create_task(slow.serve(FOLDER, small_photo(1), Gate()))
    await store.asked.wait()
    serving.cancel()
    store.answer.set()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert workers.claims() == ["sent" if fails else "refused"]
    await slow.unwritten.catch_up()
    assert (workers.claims(), workers.box.ledger.requests) == (["refused"], [])
    assert rules.NOT_SENT in workers.files("claim-1.json")[0].read_text()
    assert (await desk.serve(FOLDER, small_photo(1), Gate())).state == "enhanced"


@pytest.mark.parametrize(
    ("holds", "claims"), [("its own", ["refused", "sent"]), ("nothing", ["sent"]), ("another's", ["refused", "sent"])]
)
async def test_a_claim_that_may_be_in_the_store_is_taken_back_if_it_is(
    holds: str, claims: list[str], workers: Workers, desk: Desk
) -> None:
    store = Cut(desk.store.objects, holds, pauses=(0.0,))
    desk = evolve(desk, store=store)
    for _ in range(2):
        assert [one.state for one in await batch_at(desk, 1)] == ["not_attempted"]
    store.reachable.set()
    (served,) = await batch_at(desk, 1)
    assert (served.state, workers.claims(), len(store.tried)) == ("enhanced", claims, 2)
    first = read_claim(1, workers.files("claim-1.json")[0].read_bytes())
    assert (first.reason == OTHERS.reason, first.reason == rules.NOT_SENT) == (holds == "another's", holds == "its own")
    assert (workers.charges, desk.unwritten.is_empty) == ([1], True)


@pytest.mark.parametrize("name", ["record-1.json", "claim-2.json", "claim-3.json"])
async def test_what_came_while_a_purchase_waited_for_its_slot_is_seen(name: str, workers: Workers, desk: Desk) -> None:
    path = f"{FOLDER}/{name}"
    purchase = Purchase(desk.store, desk.unwritten, FOLDER, "a worker", View((CLAIM,)), Gate())
    await desk.store.put(path, b"{}")
    with pytest.raises(NotStartedError):
        async with purchase.request(lambda: True):
            raise AssertionError
    assert purchase.contested
    assert [one.name for one in workers.files("*.json")] == [name]


async def test_a_late_answer_takes_nothing_from_a_second_purchase(workers: Workers, desk: Desk) -> None:
    workers.box.script(Fault(stall=1.0))
    slow = asyncio.create_task(desk.serve(FOLDER, small_photo(1), Gate()))
    assert await asyncio.to_thread(workers.box.ledger.wait, lambda ledger: ledger.in_flight)
    heir = await evolve(desk, patience=0.2, retry_unknown=1).serve(FOLDER, small_photo(1), Gate())
    assert not slow.done()
    assert (heir.state, (await slow).state) == ("enhanced", "enhanced")
    assert len(workers.files("record-*.json")) == 2
    found = await desk.serve(FOLDER, small_photo(1), Gate())
    assert (found.request_id, found.images) == (heir.request_id, heir.images)
    assert (found.cost_usd, workers.charges) == (0.24, [2])
    # Of those two the one that is whole is handed over.
    workers.files("claim-2-image-0.png")[0].unlink()
    older = await desk.serve(FOLDER, small_photo(1), Gate())
    assert (older.state, older.request_id, older.cost_usd) == ("enhanced", (await slow).request_id, 0.24)


@pytest.mark.parametrize("state", ["refused", "unknown"])
async def test_giving_a_worker_up_does_not_undo_what_it_has_just_written(
    state: ClaimState, workers: Workers, desk: Desk
) -> None:
    sent, settled = evolve(CLAIM, state="sent", images=()), evolve(CLAIM, state=state, reason="what happened")
    await desk.store.put(f"{FOLDER}/claim-1.json", written(settled))
    shelf = Shelf(desk.store, FOLDER)
    await shelf.give_up(sent, 5.0)
    assert (await shelf.look()).claims == (settled,)
    served = await desk.serve(FOLDER, small_photo(1), Gate())
    assert served.state == ("enhanced" if state == "refused" else "unknown")
    assert len(workers.box.ledger.requests) == (state == "refused")


def test_each_claim_is_waited_for_anew() -> None:
    waiting = Waiting(10)
    assert not waiting.is_over(1, 100)
    assert waiting.is_over(1, 110)
    assert not waiting.is_over(2, 110)
    assert not waiting.is_over(2, 119)
    assert waiting.is_over(2, 120)


# ---- stores that will not do


class Careless(BaseHTTPRequestHandler):
    """An S3 server that writes an object whatever is there."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(b"<DeleteResult/>")

    def _answer(self, content: bytes) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("ETag", '"any"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        """Say nothing."""


def test_a_store_that_overwrites_is_refused_before_anything_is_bought(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Careless) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for name, value in {"ENDPOINT_URL": url, "ALLOW_HTTP": "true", "REGION": "any"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        try:
            with pytest.raises(StoreError, match="must write an object only if there is none of that name"):
                workers.hire(store="s3://bucket/prefix")
        finally:
            server.shutdown()


def test_a_store_that_knows_no_condition_is_refused_and_a_good_one_is_left_clean(workers: Workers) -> None:
    with pytest.raises(StoreError, match=r"the store cannot write probe-\w+: .*not yet implemented"):
        workers.hire(store="https://localhost:1/webdav")
    workers.hire()
    assert [*workers.store.iterdir()] == []


async def test_a_purchase_is_seen_by_who_looked_before_it(workers: Workers, desk: Desk) -> None:
    """The record of a claim that came between looking and claiming is found, not overtaken."""
    first, second = Gate(), Gate()
    waiting = asyncio.create_task(
        evolve(desk, store=Meeting(desk.store.objects, barrier := asyncio.Barrier(2))).serve(
            FOLDER, small_photo(1), first
        )
    )
    await barrier.wait()
    assert (await desk.serve(FOLDER, small_photo(1), second)).state == "enhanced"
    await barrier.wait()
    assert (await waiting).state == "enhanced"
    assert workers.charges == [1]


def test_the_store_holds_json_that_a_person_can_read(workers: Workers) -> None:
    workers.run(1)
    (record,) = workers.files("record-*.json")
    told: dict[str, Any] = json.loads(record.read_text())
    assert record.parent.relative_to(workers.store).as_posix() == FOLDER
    assert (told["number"], told["cost_usd"], told["links"]) == (1, 0.12, [])
    assert (record.parent / told["images"][0]["name"]).read_bytes().startswith(b"\x89PNG")
    (claim,) = workers.files("claim-1.json")
    assert json.loads(claim.read_text())["by"]
