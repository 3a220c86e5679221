"""What visitors of a web backend meet, and what it costs: FastAPI, Starlette and aiohttp.web alike."""

from __future__ import annotations

import base64
import json
import re
import resource
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from app_process import COMMANDS, KEY, PATIENCE, PHOTO, App, Way, bad_words, serving
from apps.limits import MAX_ALBUM_BYTES, MAX_ALBUM_PHOTOS, MAX_ALBUMS, MAX_PHOTO_BYTES, MAX_SECONDS, MAX_UPLOADS

from phota_async.sandbox import Fault, Sandbox

pytestmark = pytest.mark.slow

UPSTREAM = "words of upstream"
FORM = "Content-Type: multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
MEGABYTE = bytes(2**20)
CANCELLED = "cancelled while its request was in flight; it may have been charged"


@pytest.fixture(scope="module", params=COMMANDS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, Sandbox]]:
    """A backend with one slot, one place to wait for it and one slot for albums, for all tests of this file."""
    folder = tmp_path_factory.mktemp(request.param)
    way = Way(COMMANDS[request.param], Sandbox(long_edge=64), folder, upload_seconds=2.0)
    with way.box as box, serving(way) as app:
        yield app, box
        app.stop(signal.SIGINT)  # by another signal uvicorn ends without the warnings of the interpreter's own end
        told = app.ended()
        assert KEY not in told
        assert bad_words(told) == [], told


@pytest.fixture
def app(served: tuple[App, Sandbox]) -> App:
    return served[0]


@pytest.fixture
def box(served: tuple[App, Sandbox]) -> Sandbox:
    """The app's sandbox, with an empty book."""
    box = served[1]
    assert box.ledger.wait(lambda ledger: not ledger.in_flight)
    box.ledger.reset()
    return box


def waiting_visitor(app: App) -> socket.socket:
    """Post over a bare socket, and return once that visitor has the one place to wait."""
    for _ in range(50):
        visitor = app.visitor()
        if app.place_is_taken():
            return visitor
        visitor.close()  # it came after the question, which had the place itself
    pytest.fail("it never got the place")


def heard(visitor: socket.socket, words: str) -> str:
    """Read until ``words`` have come, and return all that has."""
    came = ""
    while words not in came:
        piece = visitor.recv(4096).decode()
        assert piece, came
        came += piece
    return came


def told(lines: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of a stream."""
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return list(zip(names, data, strict=True))


# ---- a photo


def test_a_photo_goes_in_and_an_image_comes_out(app: App, box: Sandbox) -> None:
    answer = app.post()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.content.startswith(b"\x89PNG")
    assert box.ledger.charged_images == 1


@pytest.mark.parametrize("photo", [b"no photo", b""], ids=["text", "empty"])
def test_what_is_no_photo_is_told_and_costs_nothing(photo: bytes, app: App, box: Sandbox) -> None:
    assert app.post(photo).status_code == 415
    assert box.ledger.requests == []


@pytest.mark.parametrize("timeout", ["soon", "-1", "0", "nan", "inf", f"{MAX_SECONDS + 1}"])
def test_a_deadline_that_is_none_or_too_long_is_refused(timeout: str, app: App, box: Sandbox) -> None:
    assert app.post(timeout=timeout).status_code == 422
    assert box.ledger.requests == []


@pytest.mark.parametrize(("path", "most"), [("/enhance", MAX_PHOTO_BYTES), ("/album", MAX_ALBUM_BYTES)])
@pytest.mark.parametrize("header", ["Content-Length: {}", "Content-Length: 5\r\nContent-Encoding: gzip"])
def test_a_body_that_is_too_long_or_packed_is_refused_before_it_is_read(
    header: str, path: str, most: int, app: App, box: Sandbox
) -> None:
    with app.connection() as visitor:
        visitor.sendall(
            f"POST {path} HTTP/1.1\r\nHost: backend\r\n{FORM}\r\n{header}\r\n\r\n".format(most + 1).encode()
        )
        assert visitor.recv(100).startswith(b"HTTP/1.1 415 " if "gzip" in header else b"HTTP/1.1 413 ")
    assert box.ledger.requests == []


@pytest.mark.parametrize(
    ("path", "begin", "most", "lie"),
    [
        ("/enhance", PHOTO, MAX_PHOTO_BYTES, ""),
        ("/enhance", PHOTO, MAX_PHOTO_BYTES, "Content-Length: 5\r\n"),
        ("/album", PART, MAX_ALBUM_BYTES, ""),
    ],
    ids=["photo", "lie", "album"],
)
def test_a_body_is_counted_as_it_comes_whatever_was_announced(  # noqa: PLR0913, PLR0917
    path: str, begin: bytes, most: int, lie: str, app: App, box: Sandbox
) -> None:
    if lie and app.way.command == COMMANDS["aiohttp"]:
        pytest.skip("aiohttp refuses such a request by itself, with a traceback in the log")
    with app.connection() as visitor:
        head = f"POST {path} HTTP/1.1\r\nHost: backend\r\n{FORM}\r\n{lie}Transfer-Encoding: chunked\r\n\r\n"
        visitor.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(begin), begin))
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have said so by then
            for _ in range(most // len(MEGABYTE) + 1):
                visitor.sendall(b"%x\r\n%b\r\n" % (len(MEGABYTE), MEGABYTE))
        assert visitor.recv(100).startswith(b"HTTP/1.1 413 ")
    assert box.ledger.requests == []


def test_a_body_of_unknown_length_is_welcome(app: App, box: Sandbox) -> None:
    assert app.client.post("/enhance", content=iter([PHOTO[:1000], PHOTO[1000:]])).status_code == 200
    assert box.ledger.charged_images == 1


def test_no_more_visitors_than_that_may_be_sending_and_none_for_ever(app: App, box: Sandbox) -> None:
    with ExitStack() as stack:
        slow = [
            stack.enter_context(app.half_a_visitor(path, begin, FORM))
            for path, begin in (("/enhance", PHOTO), ("/album", PART + PHOTO)) * (MAX_UPLOADS // 2)
        ]
        refused = app.post()
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
        assert {visitor.recv(20)[:13] for visitor in slow} == {b"HTTP/1.1 408 "}
    assert box.ledger.requests == []
    assert app.post().status_code == 200


def test_an_album_has_photos_and_nothing_else_and_not_too_many(app: App, box: Sandbox) -> None:
    photo = ("photos", ("0.jpg", MEGABYTE * 2))
    for files in (
        [("others", photo[1])],
        [photo, ("others", photo[1])],
        [("photos", b"photo")] * (MAX_ALBUM_PHOTOS + 1),
    ):
        assert app.client.post("/album", files=files).status_code == 400
    assert app.client.post("/album", files=[photo], data={"name": "mine"}).status_code == 400
    assert app.client.post("/album", content=b"no form").status_code == 400
    assert box.ledger.requests == []


def test_photos_that_find_no_room_are_refused_and_cost_nothing(app: App, box: Sandbox) -> None:
    before = resource.prlimit(app.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(app.process.pid, resource.RLIMIT_FSIZE, (2**21, before[1]))
    try:
        answer = app.client.post("/album", files={"photos": MEGABYTE * 4})
    finally:
        resource.prlimit(app.process.pid, resource.RLIMIT_FSIZE, before)
    assert answer.status_code == 507
    assert box.ledger.requests == []


def test_a_deadline_ends_the_call_and_gives_its_slot_back(app: App, box: Sandbox) -> None:
    box.script(Fault(stall=1000))
    assert app.post(timeout="0.5").status_code == 504
    app.log.wait_for("the deadline of 0.5 s passed with a request in flight")
    assert app.post().status_code == 200


def test_a_full_queue_is_told_at_once(app: App, box: Sandbox) -> None:
    box.script(Fault(stall=1.0))
    first = app.posting()
    assert box.ledger.wait(lambda ledger: ledger.in_flight)
    others = [app.posting(), app.posting()]  # one place to wait
    refused = next(iter(wait(others, PATIENCE, FIRST_COMPLETED).done)).result()
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
    assert sorted(post.result(PATIENCE).status_code for post in (first, *others)) == [200, 200, 503]
    assert box.ledger.charged_images == 2


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(status=400, code="CONTENT_MODERATION", detail=UPSTREAM), 422),
        (Fault(status=422, detail=UPSTREAM), 422),
        (Fault(status=401, detail=f"{UPSTREAM}: {KEY}"), 503),
        (Fault(status=402, detail=UPSTREAM), 503),
        (Fault(status=404, code="PROFILE_NOT_FOUND", detail=UPSTREAM), 502),
        (Fault(status=504, detail=UPSTREAM), 502),
        (Fault(reset="after"), 502),
    ],
    ids=["moderation", "schema", "key", "credits", "profile", "gateway", "cut"],
)
def test_an_error_is_told_in_our_own_words(fault: Fault, status: int, app: App, box: Sandbox) -> None:
    box.script(fault)
    answer = app.post()
    assert answer.status_code == status
    assert "Retry-After" not in answer.headers
    assert answer.json().keys() == {"error", "request_id"}
    assert [words for words in (UPSTREAM, KEY, box.url, "credit", "key") if words in answer.text] == []
    request = answer.json()["request_id"]
    if fault.reset is None:
        assert request == box.ledger.requests[-1].request_id
        assert app.log.wait(lambda text: re.search(f"{UPSTREAM}.*{request}", text))


def links(box: Sandbox, *more: str) -> Fault:
    """Return an answer that hands over a link where an image was asked for, the link with ``more`` at its end."""
    asked = {"image": base64.b64encode(PHOTO).decode(), "response_mode": "urls", "output_format": "png"}
    answer = httpx.post(f"{box.url}/enhance", json=asked, headers={"X-API-Key": "another"}, trust_env=False).json()
    box.ledger.reset()
    return Fault(body=json.dumps({**answer, "download_urls": ["".join([*answer["download_urls"], *more])]}).encode())


def test_what_was_paid_for_is_fetched_where_a_link_came_instead(app: App, box: Sandbox) -> None:
    good, bad = links(box), links(box, "0")
    box.script(good, bad, Fault(body=b'{"images": []}'))
    assert app.post().content.startswith(b"\x89PNG")
    for _ in range(2):
        answer = app.post()
        assert answer.status_code == 502
        assert answer.json()["request_id"] == box.ledger.requests[-1].request_id
        app.log.wait_for(answer.json()["request_id"])
    box.script(bad, good)
    events = told(app.album(2).result(PATIENCE))
    assert [sorted(data) for name, data in events if name == "photo"] == [["error", "index"], ["image", "index"]]
    assert events[-1] == ("done", {"enhanced": 1, "failed": 1})


# ---- a visitor who goes away


def test_a_visitor_who_leaves_in_the_queue_costs_nothing(app: App, box: Sandbox) -> None:
    box.script(Fault(stall=1000))
    before = app.log.text.count(CANCELLED)
    with app.visitor():
        assert box.ledger.wait(lambda ledger: ledger.in_flight)
        waiting_visitor(app).close()
        assert any(not app.place_is_taken() for _ in range(50))
        assert app.log.text.count(CANCELLED) == before
        assert len(box.ledger.requests) == 1
    app.log.wait_for(CANCELLED, before + 1)


@pytest.mark.parametrize("path", ["/enhance", "/album"])
def test_a_visitor_who_leaves_before_all_is_said_costs_nothing(path: str, app: App, box: Sandbox) -> None:
    app.half_a_visitor(path, PART + PHOTO[:5000], FORM).close()
    assert app.post().status_code == 200
    assert len(box.ledger.requests) == 1


def test_a_visitor_who_leaves_a_paid_call_ends_it_and_it_is_logged(app: App, box: Sandbox) -> None:
    box.script(Fault(stall=1000, charged=True))
    before = app.log.text.count(CANCELLED)
    visitor = app.visitor()
    assert box.ledger.wait(lambda ledger: ledger.charged_images)
    visitor.close()
    app.log.wait_for(CANCELLED, before + 1)
    assert box.ledger.wait(lambda ledger: not ledger.in_flight)
    assert app.post().status_code == 200  # its slot is free
    assert box.ledger.charged_images == 2


# ---- an album


def test_an_album_is_told_as_it_lands_and_its_images_are_there(app: App, box: Sandbox) -> None:
    box.script(None, Fault(status=400, code="CONTENT_MODERATION"))
    events = told(app.album(3).result(PATIENCE))
    assert [name for name, _ in events] == ["album", "photo", "photo", "photo", "done"]
    assert events[0][1]["photos"] == 3
    assert events[-1][1] == {"enhanced": 2, "failed": 1}
    photos = {data["index"]: data for name, data in events if name == "photo"}
    assert {index: photo.keys() for index, photo in photos.items()} == {
        0: {"index", "image"},
        1: {"index", "error"},
        2: {"index", "image"},
    }
    images = [app.client.get(photos[index]["image"]) for index in (0, 2)]
    assert [(image.status_code, image.content[:4]) for image in images] == [(200, b"\x89PNG")] * 2
    assert box.ledger.charged_images == 2


def test_an_album_is_told_while_it_is_on_its_way(app: App, box: Sandbox) -> None:
    box.script(None, Fault(stall=1.0))
    with app.album_visitor(2) as visitor:
        assert "done" not in heard(visitor, '"index": 0')
        assert box.ledger.wait(lambda ledger: ledger.in_flight)
        assert '"index": 1' in heard(visitor, "event: done")


def test_an_album_ends_with_the_account_and_says_no_more_than_that(app: App, box: Sandbox) -> None:
    box.script(None, Fault(status=402))
    events = told(app.album(4).result(PATIENCE))
    assert [data.get("error") for _, data in events[1:-1]] == [None, *["Not available just now."] * 3]
    assert len(box.ledger.requests) == 2


def test_of_albums_some_begin_nobody_waits_for_them_and_when_their_visitors_leave_nothing_more_is_bought(
    app: App, box: Sandbox
) -> None:
    box.script(Fault(stall=2.0))
    before = app.log.text.count("is kept")
    with ExitStack() as stack:
        first = stack.enter_context(app.album_visitor(4))
        assert box.ledger.wait(lambda ledger: ledger.in_flight)
        visitors = [first, *(stack.enter_context(app.album_visitor(2)) for _ in range(2 * MAX_ALBUMS - 1))]
        statuses = [visitor.recv(12)[-3:] for visitor in visitors]
        assert sorted(statuses) == [b"200"] * MAX_ALBUMS + [b"503"] * MAX_ALBUMS
        assert app.post().status_code == 200  # by the slot that albums have no share of
        assert box.ledger.in_flight == 1
    app.log.wait_for("is kept", before + 1)
    # With one slot, what waited for it would come before this one.
    assert "event: done" in app.album(1).result(PATIENCE)
    assert (len(box.ledger.requests), box.ledger.charged_images) == (3, 3)
    album = re.findall(r"(\w+)/0 is kept", app.log.text)[-2]
    assert [path.name for path in (app.way.folder / album).iterdir()] == ["0.png"]
