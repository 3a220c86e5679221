"""A web backend in several processes, in one that is replaced, and one client in several event loops."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import aiohttp
import httpx
import pytest
from app_process import COMMANDS, KEY, PATIENCE, PHOTO, App, Way, bad_words, serving
from fastapi import FastAPI

from phota_async import EnhanceResult, PhotaClient
from phota_async.sandbox import Fault, Sandbox

STARTED = "Application startup complete"
STALL = 2.5

MODULE = """
from apps.fastapi_app import app

@app.get("/version")
async def version() -> str:
    return "first"
"""


@contextmanager
def asleep(process: int) -> Generator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def one_post_to_each(app: App, box: Sandbox) -> dict[int, Future[httpx.Response]]:
    """Post to each of two workers, whose calls stall, and give the posts by process id."""
    app.log.wait_for(STARTED, 2)
    first, second = map(int, re.findall(r"Started server process \[(\d+)\]", app.log.text))
    posts: dict[int, Future[httpx.Response]] = {}
    # Which of them takes a connection is the kernel's choice, unless one cannot.
    for awake, other in ((first, second), (second, first)):
        with asleep(other):
            posts[awake] = app.posting()
            assert box.ledger.wait(lambda ledger: ledger.in_flight == len(posts))
    return posts


@contextmanager
def two_workers(box: Sandbox, folder: Path) -> Generator[tuple[App, dict[int, Future[httpx.Response]]]]:
    """Serve with two workers, and post to each; their calls stall."""
    box.script(*[Fault(stall=STALL)] * 2)
    with serving(Way((*COMMANDS["fastapi"], "--workers", "2"), box, folder, width=1)) as app:
        yield app, one_post_to_each(app, box)


@pytest.mark.slow
def test_each_worker_has_a_width_of_its_own_and_lets_its_calls_land(tmp_path: Path, phota_sandbox: Sandbox) -> None:
    with two_workers(phota_sandbox, tmp_path / "kept") as (app, posts):
        app.stop()
        told = app.ended()
        assert [post.result(PATIENCE).status_code for post in posts.values()] == [200, 200], told
    assert phota_sandbox.ledger.charged_images == phota_sandbox.ledger.widest == 2
    assert bad_words(told, "may have been charged") == [], told


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_only_its_own_calls(tmp_path: Path, phota_sandbox: Sandbox) -> None:
    with two_workers(phota_sandbox, tmp_path / "kept") as (app, posts):
        killed, spared = posts
        os.kill(killed, signal.SIGKILL)
        assert isinstance(posts[killed].exception(PATIENCE), httpx.TransportError)
        assert posts[spared].result(PATIENCE).status_code == 200
        app.log.wait_for(STARTED, 3)
        assert app.post().status_code == 200
        app.stop()
        app.ended()
    # What was in flight there may have been charged, and nobody has bought it again.
    assert len(phota_sandbox.ledger.requests) == 3


@pytest.mark.slow
def test_a_reload_lets_calls_land_and_the_new_process_serves(tmp_path: Path, phota_sandbox: Sandbox) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    module = watched / "served.py"
    module.write_text(MODULE)
    command = (*COMMANDS["fastapi"][:-1], "--reload", "--reload-dir", str(watched), "served:app")
    phota_sandbox.script(Fault(stall=STALL))
    with serving(Way(command, phota_sandbox, tmp_path / "kept", path=str(watched))) as app:
        app.log.wait_for(STARTED)
        assert app.client.get("/version").json() == "first"
        post = app.posting()
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight)
        module.write_text(MODULE.replace("first", "second"))
        later = module.stat().st_mtime
        # The reloader knows a file's time only once it has looked.
        while not app.log.wait(lambda text: "Reloading" in text, timeout=1.0):
            later += 10
            os.utime(module, (later, later))
        assert post.result(PATIENCE).status_code == 200
        app.log.wait_for(STARTED, 2)
        assert app.client.get("/version").json() == "second"
        assert app.post().status_code == 200
        app.stop()
        told = app.ended()
    assert phota_sandbox.ledger.charged_images == 2
    assert bad_words(told, "may have been charged") == [], told


@pytest.mark.slow
def test_a_client_made_at_import_says_at_once_that_there_is_no_key(tmp_path: Path, phota_sandbox: Sandbox) -> None:
    way = Way(COMMANDS["fastapi"], phota_sandbox, tmp_path)
    done = subprocess.run(  # noqa: S603
        way.command,
        env={**way.environment(), "PHOTA_API_KEY": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "ValueError: api_key is missing: pass it, or set the environment variable PHOTA_API_KEY" in done.stderr


# ---- one client, several loops


def open_sessions() -> list[aiohttp.ClientSession]:
    return [one for one in gc.get_objects() if type(one) is aiohttp.ClientSession and not one.closed]


async def live(app: FastAPI) -> None:
    """Go through a whole life of an app, with one visitor."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://backend") as visitor,
    ):
        assert (await visitor.post("/enhance", content=PHOTO)).status_code == 200
        assert len(open_sessions()) == 1


def test_a_client_made_at_import_opens_in_each_life_of_its_app_and_closes(
    phota_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTA_API_KEY", KEY)
    monkeypatch.setenv("PHOTA_BASE_URL", phota_sandbox.url)
    app = import_module("apps.fastapi_app").app
    del sys.modules["apps.fastapi_app"]  # it has read this test's environment
    gc.collect()
    for life in (1, 2):
        assert open_sessions() == []
        asyncio.run(live(app))
        assert open_sessions() == []
        assert phota_sandbox.ledger.charged_images == life
    with ThreadPoolExecutor(1) as threads:  # where signals cannot be listened to
        threads.submit(asyncio.run, live(app)).result(PATIENCE)
    assert phota_sandbox.ledger.charged_images == 3


def in_a_loop_of_its_own(phota: PhotaClient, calls: int) -> list[EnhanceResult]:
    async def main() -> list[EnhanceResult]:
        async with phota:
            return await asyncio.gather(*[phota.enhance(PHOTO) for _ in range(calls)])

    return asyncio.run(main())


def test_one_client_serves_a_loop_in_each_thread_with_a_width_for_each(phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(*[Fault(stall=0.7)] * 6)
    phota = PhotaClient(KEY, base_url=phota_sandbox.url, max_concurrency=2)
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(in_a_loop_of_its_own, phota, 4) for _ in range(3)]
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 6)
        results = [result for each in running for result in each.result(PATIENCE)]
    assert len(results) == phota_sandbox.ledger.charged_images == 12
    assert phota_sandbox.ledger.widest == 6
    assert [image.data[:4] for result in results for image in result.images] == [b"\x89PNG"] * 12
    gc.collect()  # a session that was left open would warn


def test_a_loop_that_ends_leaves_the_calls_of_the_others_alone(phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(Fault(stall=0.7))
    phota = PhotaClient(KEY, base_url=phota_sandbox.url)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(in_a_loop_of_its_own, phota, 1)
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight)
        for _ in range(3):  # each closes the client in its own loop
            assert in_a_loop_of_its_own(phota, 1)[0].attempts == 1
        assert not slow.done()
        assert slow.result(PATIENCE)[0].attempts == 1
    assert phota_sandbox.ledger.charged_images == 4
