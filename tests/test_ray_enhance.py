"""What workers of a cluster hand over and pay for: batches run again, by others, at once, interrupted, mistaken."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ray_workers import KEY, Workers, batch_of, rows_of, small_photo, states, until

from phota_async import Price, RetryPolicy, Timeout
from phota_async.errors import ClientClosedError
from phota_async.models import EnhanceOptions
from phota_async.ray import Enhance, rules
from phota_async.ray.buyer import Buyer
from phota_async.ray.desk import Desk, Served
from phota_async.ray.loop import Loop
from phota_async.ray.rows import rows
from phota_async.ray.store import StoreError
from phota_async.sandbox import Fault

HERE = Path(__file__).parent
LOST = Fault(reset="after", charged=True)
QUICKLY = RetryPolicy(initial_wait=0)


# ---- what is handed over


def test_rows_come_back_with_their_images_and_a_batch_run_again_buys_nothing(workers: Workers) -> None:
    rows = workers.run(1, 2)
    assert [row["path"] for row in rows] == ["/photos/1.png", "/photos/2.png"]
    assert [*rows[0]] == ["path", "state", "image", "link", "number", "request_id", "spend_usd", "error", "key"]
    for row in rows:
        assert Image.open(io.BytesIO(row["image"])).size == (16, 16)
        assert (row["state"], row["link"], row["error"]) == ("enhanced", "", "")
        assert (row["number"], row["spend_usd"]) == (0, 0.12)
    assert {row["request_id"] for row in rows} == {one.request_id for one in workers.box.ledger.requests}
    assert workers.run(1, 2) == rows
    assert workers.charges == [1, 1]
    assert len(workers.box.ledger.requests) == 2


def test_arrays_stay_arrays_of_their_type(workers: Workers) -> None:
    days = np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]")
    batch = {"bytes": np.array([small_photo(1), small_photo(2)], dtype=object), "day": days, "name": ["a", "b"]}
    columns = workers.hire(num_output_images=2)(batch)
    assert columns["day"].dtype == days.dtype
    assert [*columns["day"]] == [days[0], days[0], days[1], days[1]]
    assert columns["name"] == ["a", "a", "b", "b"]


def test_texts_that_no_column_takes_are_made_so() -> None:
    half = "https://x/\ud800"
    served = Served(state="unknown", links=(half,), request_id=half, error=half)
    columns = rows({"bytes": [b""]}, [("key", served)])
    assert columns["link"] == columns["request_id"] == columns["error"] == ["https://x/?"]


def test_a_photo_of_several_images_has_as_many_rows_and_other_columns_are_handed_on(workers: Workers) -> None:
    worker = workers.hire(num_output_images=3, profile_ids=["me"], output_format="jpg", price=Price(1.0, 2.0))
    rows = rows_of(worker({**batch_of(1, 2), "album": ["trip", "home"], "vector": [[1, 2], [3, 4]]}))
    assert [(row["album"], row["vector"], row["number"]) for row in rows] == [
        *[("trip", [1, 2], number) for number in range(3)],
        *[("home", [3, 4], number) for number in range(3)],
    ]
    assert len({row["image"] for row in rows}) == 6
    # The sandbox knows the subject of every profile.
    assert [row["spend_usd"] for row in rows] == [2.0] * 6
    assert all(path.suffix == ".jpg" for path in workers.files("claim-1-image-*"))


def test_the_bill_is_the_sum_over_rows_that_differ_in_key_or_number(workers: Workers) -> None:
    rows = workers.run(1, 1, 2, num_output_images=3)
    bill = sum({(row["key"], row["number"]): row["spend_usd"] for row in rows}.values())
    assert (len(rows), workers.box.ledger.charged_images, round(bill, 6)) == (9, 6, 0.72)


def test_the_same_photo_twice_is_bought_once(workers: Workers) -> None:
    rows = workers.run(1, 1, 2)
    assert rows[0]["key"] == rows[1]["key"] != rows[2]["key"]
    assert rows[0]["image"] == rows[1]["image"]
    assert workers.charges == [1, 1]


def test_a_batch_of_many_rows_begins_in_steps(workers: Workers) -> None:
    begun, digests = [0], list[str]()

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "_run_once":  # a turn of the loop
            begun.append(0)
        elif event == "call" and frame.f_code is Desk.serve.__code__:
            begun[-1] += 1
        elif event == "call" and frame.f_code is EnhanceOptions.identity.__code__:
            digests.append("made on the loop")

    threading.setprofile(watch)
    try:
        worker = workers.hire()
    finally:
        threading.setprofile(None)
    rows = worker({"bytes": [b"no photo %d" % number for number in range(200)]})
    assert rows["state"] == ["failed"] * 200
    assert sum(begun) >= 200
    assert max(begun) < 100
    assert digests == []


def test_what_a_batch_has_met_is_not_bought_again_for_the_next_photo_with_the_same_bytes(workers: Workers) -> None:
    workers.box.script(LOST)
    assert states(workers.run(1, 1, retry_unknown=True)) == ["unknown"] * 2
    assert workers.charges == [1]


def test_another_prompt_is_another_purchase_and_another_mode_is_not(workers: Workers) -> None:
    (plain,) = workers.run(1)
    (soft,) = workers.run(1, prompt="soft")
    assert plain["key"] != soft["key"]
    assert workers.run(1, response_mode="urls") == [plain]
    assert workers.charges == [2]


def test_links_are_handed_over_while_they_live(workers: Workers) -> None:
    (row,) = workers.run(1, response_mode="urls")
    assert row["link"].startswith(workers.box.url.partition("/v1")[0])
    assert (row["state"], row["image"], row["spend_usd"]) == ("enhanced", b"", 0.12)
    assert workers.run(1, response_mode="urls") == [row]
    (record,) = workers.files("record-*.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "at": time.time() - 24 * 3600 - 1}))
    (late,) = workers.run(1, response_mode="urls")
    assert (late["state"], late["link"], late["error"], late["request_id"]) == (
        "unknown",
        "",
        rules.EXPIRED,
        row["request_id"],
    )
    assert workers.charges == [1]
    (again,) = workers.run(1, response_mode="urls", retry_unknown=True)
    assert (again["state"], workers.charges) == ("enhanced", [2])
    assert again["link"] != row["link"]


def test_what_a_stand_in_made_is_not_taken_for_the_services() -> None:
    keys = [rules.keys(EnhanceOptions(), stand_in=stand_in)("ab" * 32) for stand_in in (True, False)]
    assert keys == ["stand-in/" + keys[1], keys[1]]
    assert keys[1].startswith("ab/abab")


@pytest.mark.parametrize(
    ("base_url", "stand_in"),
    [
        ("http://10.0.0.5:8321/v1/phota", True),  # the service is https
        ("https://localhost/v1/phota", True),
        ("https://api.photalabs.com/v1/phota", False),
    ],
)
def test_a_stand_in_is_told_by_its_url(base_url: str, stand_in: bool, workers: Workers) -> None:  # noqa: FBT001
    assert workers.charges == []
    assert Buyer(base_url=base_url, allow_http=True).stand_in is stand_in


def test_the_key_of_the_account_is_in_no_object_of_the_store(workers: Workers) -> None:
    workers.box.script(None, Fault(status=400, detail=f"you sent {KEY}"), LOST)
    workers.run(1, 2, 3)
    assert len(workers.claims()) == 3
    for path in workers.store.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


# ---- what is no photo


def test_a_row_without_a_photo_fails_alone(workers: Workers) -> None:
    batch: dict[str, list[Any]] = {"bytes": [None, b"no photo", b"", small_photo(1)], "path": ["a", "b", "c", "d"]}
    rows = rows_of(workers.hire()(batch))
    assert states(rows) == ["failed", "failed", "failed", "enhanced"]
    assert [row["error"] for row in rows[:3]] == [
        rules.NO_BYTES.format(kind="NoneType"),
        "the photo of 8 bytes is not a JPEG, PNG, WebP or HEIC photo (told by its first bytes)",
        "the photo of 0 bytes is empty",
    ]
    assert len(workers.box.ledger.requests) == len(workers.claims()) == 1


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_of_other_kinds_are_photos(kind: type[bytearray], workers: Workers) -> None:
    (row,) = rows_of(workers.hire()({"bytes": [kind(small_photo(1))]}))
    assert (row["state"], row["key"]) == ("enhanced", workers.run(1)[0]["key"])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"bytes": [small_photo(1)], "path": ["a", "b"]}, r"the columns {'path': 2} are not as long as 'bytes', .* 1 "),
        ({"bytes": [small_photo(1)], "path": np.array([])}, r"the columns {'path': 0} are not as long"),
        ({"bytes": [small_photo(1)], "path": None}, "'path' must be a column: .*, not one NoneType"),
        ({"bytes": [small_photo(1)], "path": np.float64(1)}, "'path' must be a column: .*, not one float64"),
        ({"bytes": [small_photo(1)], "path": "a"}, "'path' must be a column: .*, not one str"),
        ({"bytes": small_photo(1)}, "'bytes' must be a column: .*, not one bytes"),
    ],
)
def test_columns_that_do_not_fit_are_refused_before_anything_is_sent(
    columns: dict[str, Any], words: str, workers: Workers
) -> None:
    with pytest.raises(ValueError, match=words):
        workers.hire()(columns)
    assert workers.box.ledger.requests == []


def test_rows_that_do_not_fit_are_refused_before_anything_is_sent(workers: Workers) -> None:
    worker = workers.hire()
    with pytest.raises(
        ValueError, match=r"must be a dict of columns \(batch_format='numpy', the default\), not .*list"
    ):
        worker([("bytes", [small_photo(1)])])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"must have a column 'bytes'.*\['path'\]"):
        worker({"path": ["a"]})
    with pytest.raises(ValueError, match=r"must not have the columns \['state', 'error'\]"):
        worker({**batch_of(1), "error": [""], "state": [""]})
    assert worker({"bytes": []}) == {name: [] for name in worker(batch_of(1)) if name != "path"}
    assert len(workers.box.ledger.requests) == 1


# ---- what fails


def test_after_an_accounts_error_nothing_new_is_sent_and_the_next_run_buys_the_rest(workers: Workers) -> None:
    workers.box.script(None, Fault(status=402))
    rows = workers.run(1, 2, 3, 4, max_concurrency=1)
    assert sorted(states(rows)) == ["enhanced", "failed", "not_attempted", "not_attempted"]
    assert all("402" in row["error"] for row in rows if row["state"] != "enhanced")
    assert (len(workers.box.ledger.requests), sorted(workers.claims())) == (2, ["refused", "sent"])
    assert states(workers.run(1, 2, 3, 4)) == ["enhanced"] * 4
    assert workers.charges == [1] * 4


def test_an_accounts_error_keeps_nobody_from_what_is_paid_for(workers: Workers) -> None:
    paid = workers.run(*range(1, 9))
    workers.files("claim-1-image-0.png")[0].unlink()
    workers.box.script(Fault(status=402))
    rows = workers.run(9, *range(1, 9), max_concurrency=1)
    assert sorted(states(rows)) == [*["enhanced"] * 7, "failed", "unknown"]
    assert [row["spend_usd"] for row in rows[1:]] == [row["spend_usd"] for row in paid]


def test_what_was_paid_for_a_photo_is_told_also_if_its_turn_does_not_come(workers: Workers) -> None:
    workers.run(1)
    workers.files("claim-1-image-0.png")[0].unlink()
    workers.box.script(Fault(status=402))
    rows = workers.run(2, 1, retry_unknown=True, max_concurrency=1)
    assert [(row["state"], row["spend_usd"]) for row in rows] == [("failed", 0.0), ("not_attempted", 0.12)]


def test_what_was_refused_is_tried_again_by_the_next_run(workers: Workers) -> None:
    workers.box.script(Fault(status=400, code="CONTENT_MODERATION"))
    (row,) = workers.run(1)
    assert (row["state"], row["image"], row["spend_usd"]) == ("failed", b"", 0.0)
    assert "moderation" in row["error"]
    assert row["request_id"] == workers.box.ledger.requests[0].request_id
    (again,) = workers.run(1)
    assert (again["state"], workers.claims()) == ("enhanced", ["refused", "sent"])


def test_each_attempt_has_a_claim_of_its_own(workers: Workers) -> None:
    workers.box.script(Fault(status=503), Fault(status=429))
    assert states(workers.run(1, retry=QUICKLY)) == ["enhanced"]
    assert workers.claims() == ["refused", "refused", "sent"]
    (record,) = workers.files("record-*.json")
    assert json.loads(record.read_text())["number"] == 3
    assert workers.charges == [1]


def test_what_may_have_been_charged_is_bought_again_only_when_asked(workers: Workers) -> None:
    workers.box.script(LOST)
    (row,) = workers.run(1)
    assert (row["state"], workers.claims()) == ("unknown", ["unknown"])
    assert "may have been charged" in row["error"]
    (again,) = workers.run(1)
    assert again == row
    assert len(workers.box.ledger.requests) == 1
    (bought,) = workers.run(1, retry_unknown=True)
    assert (bought["state"], workers.charges) == ("enhanced", [2])
    assert workers.run(1) == [bought]


def test_a_refusal_after_a_doubt_does_not_end_the_doubt(workers: Workers) -> None:
    workers.box.script(LOST, Fault(status=400), Fault(status=400))
    workers.run(1)
    for requests in (2, 3):
        (refused,) = workers.run(1, retry_unknown=True)
        assert (refused["state"], len(workers.box.ledger.requests)) == ("unknown", requests)
    assert workers.claims() == ["unknown", "refused", "refused"]
    (left,) = workers.run(1)
    assert (left["state"], len(workers.box.ledger.requests)) == ("unknown", 3)
    assert left["error"].startswith(rules.DOUBT)
    assert states(workers.run(1, retry_unknown=True)) == ["enhanced"]


def test_a_photo_in_doubt_is_bought_again_as_often_as_asked_whoever_asks(workers: Workers) -> None:
    workers.box.script(*[LOST] * 9)
    for retry_unknown, requests in [(False, 1), (True, 2), (True, 2), (1, 2), (3, 3), (2, 3), (3, 4), (3, 4)]:
        assert states(workers.run(1, retry_unknown=retry_unknown)) == ["unknown"]
        assert len(workers.box.ledger.requests) == requests
    with ThreadPoolExecutor() as pool:
        done = [pool.submit(workers.hire(retry_unknown=4), batch_of(1)) for _ in range(4)]
        assert [states(rows_of(one.result())) for one in done] == [["unknown"]] * 4
    assert workers.charges == [5]


def test_a_policy_that_repeats_what_is_in_doubt_leaves_the_doubt_in_the_claims(workers: Workers) -> None:
    workers.box.script(LOST, Fault(status=400))
    (row,) = workers.run(1, retry=RetryPolicy(initial_wait=0, retry_unknown=True))
    assert (row["state"], workers.claims(), workers.charges) == ("unknown", ["unknown", "refused"], [1])
    assert states(workers.run(1)) == ["unknown"]


def test_a_deadline_with_a_request_in_flight_is_a_doubt(workers: Workers) -> None:
    workers.box.script(Fault(stall=1000))
    (row,) = workers.run(1, timeout=Timeout(overall=0.5))
    assert (row["state"], workers.claims()) == ("unknown", ["unknown"])


def test_what_arrived_intact_of_a_broken_answer_is_kept(workers: Workers) -> None:
    workers.box.script(Fault(cut=1400))
    broken = workers.run(1, num_output_images=4)
    assert states(broken) == ["unknown"] * len(broken)
    assert 1 <= len([row for row in broken if Image.open(io.BytesIO(row["image"])).size == (16, 16)]) < 4
    assert workers.run(1, num_output_images=4) == broken
    assert len(workers.box.ledger.requests) == 1


def test_what_arrived_intact_outlives_a_refused_second_purchase(workers: Workers) -> None:
    workers.box.script(Fault(cut=1400), Fault(status=400))
    broken = workers.run(1, num_output_images=4)
    refused = workers.run(1, num_output_images=4, retry_unknown=True)
    left = workers.run(1, num_output_images=4)
    for rows_now in (refused, left):
        assert [row["image"] for row in rows_now] == [row["image"] for row in broken]
        assert {(row["state"], row["request_id"]) for row in rows_now} == {("unknown", broken[0]["request_id"])}
    assert len(workers.box.ledger.requests) == 2


def test_the_deadline_of_a_photo_begins_with_its_turn(workers: Workers) -> None:
    workers.box.latency = 0.4
    rows = workers.run(*range(6), max_concurrency=2, timeout=Timeout(overall=1.0))
    assert states(rows) == ["enhanced"] * 6


# ---- workers beside each other


def test_two_workers_with_the_same_photo_buy_it_once(workers: Workers) -> None:
    workers.box.script(Fault(stall=0.5))
    first, second = workers.hire(), workers.hire()
    with ThreadPoolExecutor() as pool:
        one = pool.submit(first, batch_of(1, 2))
        assert workers.box.ledger.wait(lambda ledger: ledger.in_flight)
        other = pool.submit(second, batch_of(1, 2))
        assert one.result() == other.result()
    assert states(rows_of(one.result())) == ["enhanced"] * 2
    assert workers.charges == [1, 1]


def test_one_worker_runs_several_batches_at_once_within_its_width(workers: Workers) -> None:
    workers.box.latency = 0.1
    worker = workers.hire(max_concurrency=3)
    with ThreadPoolExecutor() as pool:
        done = [*pool.map(worker, [batch_of(*range(5)), batch_of(*range(3, 8))])]
    assert [states(rows_of(columns)) for columns in done] == [["enhanced"] * 5] * 2
    assert (workers.charges, workers.box.ledger.widest) == ([1] * 8, 3)


def test_a_photo_that_another_worker_buys_between_two_attempts_is_left_to_it(workers: Workers) -> None:
    workers.box.script(Fault(status=503, retry_after=1))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(workers.hire(), batch_of(1))
        assert workers.box.ledger.wait(lambda ledger: [one for one in ledger.requests if one.status == 503])
        until(lambda: workers.claims() == ["refused"])
        second = workers.run(1)
        assert not first.done()
        assert rows_of(first.result()) == second
    assert states(second) == ["enhanced"]
    assert (workers.charges, workers.claims()) == ([1], ["refused", "sent"])


def test_an_accounts_error_ends_the_waiting_for_another_worker(workers: Workers) -> None:
    workers.box.script(Fault(stall=1000), Fault(status=401))
    with ThreadPoolExecutor() as pool:
        pool.submit(workers.hire(timeout=Timeout(overall=5)), batch_of(1))
        assert workers.box.ledger.wait(lambda ledger: ledger.in_flight)
        begun = time.monotonic()
        assert states(workers.run(1, 2)) == ["not_attempted", "failed"]
        assert time.monotonic() - begun < 4


# ---- life


@pytest.mark.parametrize("at_another_thread", [False, True], ids=["at-the-caller", "at-another-thread"])
def test_an_interrupt_starts_nothing_new_and_what_is_in_flight_is_recorded(
    workers: Workers, *, at_another_thread: bool
) -> None:
    workers.box.script(Fault(stall=2))
    worker = workers.hire(max_concurrency=1)

    def interrupt() -> None:
        assert workers.box.ledger.wait(lambda ledger: ledger.in_flight)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    # Blocked here, a signal is another thread's, and nothing wakes this one.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT] if at_another_thread else [])
    try:
        with pytest.raises(KeyboardInterrupt):
            worker(batch_of(1, 2, 3))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    thread.join()
    worker.close()
    assert (len(workers.files("record-*.json")), len(workers.box.ledger.requests)) == (1, 1)
    assert states(workers.run(1, 2, 3)) == ["enhanced"] * 3
    assert workers.charges == [1] * 3


def test_a_worker_that_is_closed_starts_nothing_new(workers: Workers) -> None:
    workers.box.script(Fault(stall=0.7))
    worker = workers.hire(max_concurrency=1)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(worker, batch_of(1, 2))
        assert workers.box.ledger.wait(lambda ledger: ledger.in_flight)
        second = pool.submit(worker, batch_of(3))
        closing = pool.submit(worker.close)
        assert states(rows_of(second.result())) == ["not_attempted"]
        (late,) = rows_of(worker(batch_of(4)))
        assert (late["state"], late["error"]) == ("not_attempted", "the worker was closed before this photo's turn")
        assert sorted(states(rows_of(first.result()))) == ["enhanced", "not_attempted"]
        closing.result()
    assert (len(workers.box.ledger.requests), len(workers.files("record-*.json"))) == (1, 1)


def test_a_process_that_exits_lets_what_is_in_flight_land(workers: Workers) -> None:
    workers.box.script(Fault(stall=0.7))
    script = """
import sys, threading
from ray_workers import batch_of
from phota_async.ray import Enhance
worker = Enhance(sys.argv[1], base_url=sys.argv[2])
threading.Thread(target=worker, args=[batch_of(1)], daemon=True).start()
sys.stdin.readline()
"""
    command = [sys.executable, "-c", script, str(workers.store), workers.box.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=HERE) as process:  # noqa: S603
        assert workers.box.ledger.wait(lambda ledger: ledger.in_flight)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
    assert states(workers.run(1)) == ["enhanced"]
    assert workers.charges == [1]


def test_a_worker_that_nobody_holds_closes_itself(workers: Workers) -> None:
    before = {*threading.enumerate()}
    worker = Enhance(workers.store, base_url=workers.box.url)
    worker(batch_of(1))
    (thread,) = [one for one in {*threading.enumerate()} - before if one.name == "phota-async"]
    gone = weakref.ref(worker)
    del worker
    gc.collect()
    thread.join()
    assert gone() is None


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def no_threads(loop: Loop) -> Iterator[None]:
    """Let no thread begin after the loop's: there is no room for the stack that each is to have."""
    del loop
    usual = threading.stack_size(2**50)
    yield
    threading.stack_size(usual)


def test_a_loop_is_closed_from_its_own_thread_too() -> None:
    loop, done = Loop(), threading.Event()

    async def last() -> None:
        done.set()

    async def close() -> threading.Thread:
        loop.close(done.clear, last())
        return threading.current_thread()

    thread = loop.submit(close()).result()
    thread.join()
    assert done.is_set()


def test_a_loop_that_is_closed_waits_for_what_begins_meanwhile() -> None:
    loop, told, begun = Loop(), list[str](), threading.Event()
    first = asyncio.Event()

    async def begin(number: int) -> asyncio.Task[Any] | None:
        begun.set()
        await first.wait()
        told.append(str(number))
        return asyncio.create_task(begin(number - 1)) if number else None

    async def last() -> None:
        told.append("last")

    loop.submit(begin(50))
    assert begun.wait(5)
    loop.close(first.set, last())
    assert told == [*(str(number) for number in range(50, -1, -1)), "last"]


def test_a_loop_that_is_closed_runs_what_was_submitted_before() -> None:
    loop, told = Loop(), list[str]()

    async def tell(what: str) -> None:
        told.append(what)

    loop.close(lambda: loop.submit(tell("late")), tell("last"))
    assert told == ["late", "last"]


def test_who_interrupts_the_end_of_a_loop_is_let_go_and_the_end_comes() -> None:
    loop, told, go_on = Loop(), list[str](), threading.Event()
    before = {*threading.enumerate()}

    async def last() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.to_thread(go_on.wait)
        told.append("last")

    with pytest.raises(KeyboardInterrupt):
        loop.close(lambda: None, last())
    assert told == []
    (goes_on,) = [one for one in {*threading.enumerate()} - before if one.name.startswith("phota-async-end")]
    assert not goes_on.daemon
    go_on.set()
    goes_on.join()
    assert told == ["last"]
    with pytest.raises(ClientClosedError):
        loop.submit(asyncio.sleep(0))


def test_an_interrupt_while_the_interpreter_exits_does_not_cut_the_end_short() -> None:
    script = """
import asyncio, atexit, os, signal, sys
from phota_async.ray.loop import Loop

def interrupted(*_):
    print("interrupted", flush=True)
    raise KeyboardInterrupt

async def last():
    os.kill(os.getpid(), signal.SIGINT)
    sys.stdin.readline()
    for _ in range(5):
        await asyncio.sleep(0)
    print("recorded", flush=True)

signal.signal(signal.SIGINT, interrupted)
loop = Loop()
atexit.register(lambda: loop.close(lambda: None, last()))
"""
    command, pipe = [sys.executable, "-c", script], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        assert process.stdout.readline() == "interrupted\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        printed, told = process.communicate("go on\n", timeout=20)
    assert printed == "recorded\n"
    assert "KeyboardInterrupt" in told


@pytest.mark.usefixtures("no_threads")
def test_a_loop_is_closed_also_where_no_thread_can_be_had(loop: Loop) -> None:
    told: list[str] = []

    async def last() -> None:
        told.append("last")

    async def close() -> None:
        loop.close(lambda: None, last())

    with pytest.raises(RuntimeError, match="can't start new thread"):
        loop.submit(close()).result()
    assert told == []
    loop.close(lambda: None, last())
    assert told == ["last"]


def test_a_loop_whose_last_words_fail_is_closed_and_tells() -> None:
    before, loop = {*threading.enumerate()}, Loop()
    (thread,) = {*threading.enumerate()} - before

    async def last() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop.close(lambda: None, last())
    assert not thread.is_alive()


def test_a_worker_that_a_fork_inherits_refuses_and_does_not_keep_it_from_exiting(workers: Workers) -> None:
    script = """
import os, sys
from ray_workers import batch_of
from phota_async.errors import ClientClosedError
from phota_async.ray import Enhance
worker = Enhance(sys.argv[1], base_url=sys.argv[2])
child = os.fork()
if not child:
    try:
        worker(batch_of(1))
    except ClientClosedError as error:
        print(error, flush=True)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(worker(batch_of(1))["state"])
"""
    command = [sys.executable, "-W", "ignore", "-c", script, str(workers.store), workers.box.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=HERE)  # noqa: S603
    refusal = "the worker belongs to another process: build it in the one that uses it"
    assert done.stdout.splitlines() == [refusal, "7", "['enhanced']"]
    assert done.stderr == ""


def test_a_loop_takes_nothing_that_would_not_come_to_its_end() -> None:
    loop, closing, go_on = Loop(), threading.Event(), threading.Event()

    async def last() -> None:
        closing.set()
        await asyncio.to_thread(go_on.wait)

    with ThreadPoolExecutor() as pool:
        closed = pool.submit(loop.close, lambda: None, last())
        assert closing.wait(5)
        try:
            with pytest.raises(ClientClosedError, match="the worker is closed"):
                loop.submit(asyncio.sleep(0))
        finally:
            go_on.set()
        closed.result()


def test_a_batch_for_a_worker_that_was_closed_is_refused(workers: Workers) -> None:
    worker = workers.hire()
    worker.close()
    with pytest.raises(ClientClosedError, match="the worker is closed"):
        worker(batch_of(1))
    assert workers.box.ledger.requests == []


# ---- what it is built with


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"store": "relative/path"}, "store must be an absolute path or a URL"),
        ({"store": "memory:///"}, "store must be an absolute path or a URL of what all workers share"),
        ({"store": "MEMORY:///x"}, "store must be an absolute path or a URL of what all workers share"),
        ({"store": " memory:///x"}, "store must be an absolute path or a URL of what all workers share"),
        ({"store": 5}, "store must be a path or a URL, not 5"),
        ({"price": 0.12}, "price must be a Price, not 0.12"),
        ({"price": None}, "price must be a Price, not None"),
        ({"retry_unknown": "false"}, "retry_unknown must be True, False or a number of times, not 'false'"),
        ({"retry_unknown": -1}, "retry_unknown must be"),
        ({"retry_unknown": 1.0}, "retry_unknown must be"),
        ({"patience": 0}, "patience must be a positive number of seconds"),
        ({"num_output_images": 5}, "num_output_images"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"base_url": "http://example.com"}, "base_url must be https"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], words: str, workers: Workers) -> None:
    with pytest.raises(ValueError, match=words):
        workers.hire(**options)


def test_the_key_is_taken_from_the_environment_only(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'api_key'"):
        workers.hire(api_key=KEY)
    monkeypatch.setenv("PHOTA_API_KEY", "a-key\n")
    with pytest.raises(ValueError, match="PHOTA_API_KEY must be printable ASCII"):
        workers.hire()
    monkeypatch.delenv("PHOTA_API_KEY")
    with pytest.raises(ValueError, match="set the environment variable PHOTA_API_KEY"):
        workers.hire()


def test_a_store_that_cannot_be_opened_is_told(workers: Workers) -> None:
    with pytest.raises(StoreError, match=r"cannot open gopher://place/x: .*recognise URL"):
        workers.hire(store="gopher://place/x?signature=secret")
    with pytest.raises(StoreError, match="cannot open /proc/nowhere"):
        workers.hire(store="/proc/nowhere")
    with pytest.raises(StoreError, match="cannot open s3://buc ket/x: invalid domain character"):
        workers.hire(store="s3://buc ket/x")
    with pytest.raises(StoreError, match="cannot open file://server/x"):
        workers.hire(store="file://server/x")


def test_a_directory_is_made_for_its_user_alone_but_not_the_one_it_is_in(tmp_path: Path, workers: Workers) -> None:
    workers.hire(store=tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    with pytest.raises(StoreError, match=f"there is no {tmp_path}/share; is a shared folder not mounted here?"):
        workers.hire(store=tmp_path / "share" / "new")
    assert not (tmp_path / "share").exists()


@pytest.mark.parametrize("spelled", [str, str.upper, " {}".format])
def test_a_directory_has_a_url_too(spelled: Callable[[str], str], workers: Workers) -> None:
    url = workers.store.with_name("with space").as_uri()
    rows = workers.run(1, store=f"{spelled('file')}{url.removeprefix('file')}")
    assert workers.run(1, store=workers.store.with_name("with space")) == rows
    assert workers.charges == [1]


def test_what_is_missing_is_named() -> None:
    script = "import sys; sys.modules['obstore'] = None; import phota_async.ray"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert "ImportError: phota_async.ray needs obstore" in done.stderr
    assert "phota-async[ray]" in done.stderr
    assert "During handling" not in done.stderr
