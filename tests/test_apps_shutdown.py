"""A web backend that is stopped under load: what is paid for lands and is answered, and nothing is left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_process import COMMANDS, KEY, PATIENCE, App, Way, bad_words, serving

from phota_async.sandbox import Fault, Sandbox

pytestmark = pytest.mark.slow

STALL = 2.5


@pytest.fixture(params=COMMANDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(name: str, tmp_path: Path, phota_sandbox: Sandbox) -> Iterator[App]:
    with serving(Way(COMMANDS[name], phota_sandbox, tmp_path / "kept", width=4, album_width=4, queue=1)) as app:
        yield app


def refuses(app: App) -> bool:
    try:
        app.connection().close()
    except ConnectionRefusedError:
        return True
    return False


def test_calls_in_flight_and_in_the_queue_are_answered(app: App, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(*[Fault(stall=STALL)] * 4)
    posts = [app.posting() for _ in range(4)]
    assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 4)
    posts.append(app.queued())
    app.stop()
    answers = [post.result(PATIENCE) for post in posts]
    told = app.ended()
    assert [answer.status_code for answer in answers] == [200] * 5, told
    assert phota_sandbox.ledger.charged_images == 5
    assert bad_words(told, "may have been charged") == [], told
    assert app.process.returncode in {0, -signal.SIGTERM}  # uvicorn ends by the signal once it has shut down
    assert refuses(app)


def test_of_an_album_under_way_what_is_in_flight_lands_and_is_told_and_nothing_more_is_bought(
    app: App, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(*[Fault(stall=1.0)] * 4)
    album = app.album(6)
    assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 4)
    app.stop(signal.SIGINT)
    lines = album.result(PATIENCE)
    told = app.ended()
    assert 'data: {"enhanced": 4, "failed": 2}' in lines
    assert phota_sandbox.ledger.charged_images == len(list(app.way.folder.rglob("*.png"))) == 4
    assert bad_words(told, "may have been charged") == [], told


def test_an_album_that_nobody_watches_lands_all_the_same(app: App, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(*[Fault(stall=STALL)] * 4)
    with app.album_visitor(6):
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 4)
    app.stop()
    told = app.ended()
    assert phota_sandbox.ledger.charged_images == len(list(app.way.folder.rglob("*.png"))) == told.count("is kept") == 4
    assert bad_words(told, "may have been charged") == [], told


def test_when_the_time_to_stop_is_up_what_is_in_flight_ends_and_is_logged(
    name: str, tmp_path: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(*[Fault(stall=1000, charged=True)] * 4)
    limit = () if name == "aiohttp" else ("--timeout-graceful-shutdown", "1")
    way = Way((*COMMANDS[name], *limit), phota_sandbox, tmp_path / "kept", width=2, album_width=2, grace=1.0)
    with serving(way) as app, app.album_visitor(3):
        app.album_visitor(3).close()
        posts = [app.posting() for _ in range(2)]
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.charged_images == 4)
        posts.append(app.queued())
        app.stop()
        told = app.ended()
        assert all(post.exception(PATIENCE) or post.result().is_server_error for post in posts)
    assert told.count("cancelled while its request was in flight; it may have been charged") == 4, told
    assert len(phota_sandbox.ledger.requests) == 4
    assert set(bad_words(told, KEY)) <= {"Traceback"}, told  # with which uvicorn tells of each request that it cancels
