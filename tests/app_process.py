"""The web backends of `apps`, each in a process of its own, served as in production and driven over sockets."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
from apps.answers import EVENT_STREAM
from attrs import define, field, frozen

from phota_async.sandbox import Sandbox

TESTS = Path(__file__).parent
PHOTO = (TESTS / "photos" / "rocket.jpg").read_bytes()
KEY = "canary-key-7Qz"
PATIENCE = 40.0

UVICORN = (sys.executable, "-m", "uvicorn", "--app-dir", str(TESTS), "--port", "0")
COMMANDS = {
    "fastapi": (*UVICORN, "apps.fastapi_app:app"),
    "starlette": (*UVICORN, "apps.starlette_app:app"),
    "aiohttp": (sys.executable, "-m", "apps.aiohttp_app"),
}

# What asyncio, aiohttp and Python say on stderr of what was left behind.
_LEFT_BEHIND = ("was destroyed", "never retrieved", "never awaited", "Unclosed", "ResourceWarning", "Exception ignored")
# uvicorn's parent process leaves the socket that it listens on to the end of the process.
_THEIRS = re.compile(
    r"^.*ResourceWarning: unclosed <socket[^>]*laddr=\('127.0.0.1', \d+\)>\nResourceWarning: Enable tracemalloc.*$",
    re.MULTILINE,
)


class Log:
    """What a process prints, as it comes."""

    def __init__(self, stream: IO[str]) -> None:
        self._text = ""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=[stream], daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._changed:
                self._text += line
                self._changed.notify_all()

    @property
    def text(self) -> str:
        return self._text

    def whole(self) -> str:
        """Return all of it, once nobody writes to it any more."""
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), "somebody still writes to it"
        return self._text

    def wait(self, told: Callable[[str], object], *, timeout: float = PATIENCE) -> bool:
        with self._changed:
            return bool(self._changed.wait_for(lambda: told(self._text), timeout))

    def wait_for(self, words: str, times: int = 1) -> None:
        assert self.wait(lambda text: text.count(words) >= times), self._text


def bad_words(told: str, *more: str) -> list[str]:
    """Return what a backend's log should not hold: what was left behind, tracebacks and ``more``."""
    ours = _THEIRS.sub("", told)
    return [words for words in (*_LEFT_BEHIND, "Traceback", *more) if words in ours]


@frozen
class Way:
    """How a backend is started."""

    command: tuple[str, ...]
    box: Sandbox
    folder: Path
    width: int = 1
    album_width: int = 1
    queue: int = 1
    grace: float = PATIENCE
    upload_seconds: float = PATIENCE
    path: str = ""

    def environment(self) -> dict[str, str]:
        bare = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return {
            **bare,
            "PHOTA_API_KEY": KEY,
            "PHOTA_BASE_URL": self.box.url,
            "ENHANCE_WIDTH": str(self.width),
            "ENHANCE_ALBUM_WIDTH": str(self.album_width),
            "ENHANCE_QUEUE": str(self.queue),
            "ENHANCE_GRACE": str(self.grace),
            "ENHANCE_UPLOAD_SECONDS": str(self.upload_seconds),
            "ENHANCE_FOLDER": str(self.folder),
            "PORT": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, [self.path, str(TESTS), os.environ.get("PYTHONPATH", "")])),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "default::ResourceWarning",
        }


@define(eq=False)
class App:
    """A backend that is being served."""

    process: subprocess.Popen[str]
    log: Log
    url: str
    way: Way
    client: httpx.Client
    _visitors: ThreadPoolExecutor = field(factory=lambda: ThreadPoolExecutor(40))

    def post(self, photo: bytes = PHOTO, **query: str) -> httpx.Response:
        return self.client.post("/enhance", content=photo, params=query)

    def posting(self, photo: bytes = PHOTO, **query: str) -> Future[httpx.Response]:
        """Post from a thread of its own."""
        return self._visitors.submit(self.post, photo, **query)

    def place_is_taken(self) -> bool:
        """Whether somebody waits where one may; all slots must be taken."""
        answer = self.post(timeout="0.2")  # if nobody waits, this one does until its deadline
        assert answer.status_code in {503, 504}, answer
        return answer.status_code == 503

    def queued(self) -> Future[httpx.Response]:
        """Post, and return once that post has the one place to wait."""
        for _ in range(50):
            post = self.posting()
            while not post.done():
                if self.place_is_taken():
                    return post
        raise AssertionError("it never got the place")

    def album(self, photos: int) -> Future[list[str]]:
        """Post an album from a thread of its own, and give the lines that come back once all have."""
        return self._visitors.submit(self._album, photos)

    def _album(self, photos: int) -> list[str]:
        answer = self.client.post("/album", files=_files(photos))
        assert answer.status_code == 200, answer.text
        assert {name: answer.headers[name] for name in EVENT_STREAM} == EVENT_STREAM
        return answer.text.splitlines()

    def connection(self) -> socket.socket:
        url = httpx.URL(self.url)
        return socket.create_connection((url.host, url.port or 80), PATIENCE)

    def half_a_visitor(self, path: str, body: bytes, *headers: str) -> socket.socket:
        """Begin to post over a bare socket, and return once the backend waits for the rest."""
        visitor = self.connection()
        head = f"POST {path} HTTP/1.1\r\nHost: backend\r\nContent-Length: {len(body) + 100_000}\r\nExpect: 100-continue"
        visitor.sendall("\r\n".join([head, *headers, "\r\n"]).encode())
        assert visitor.recv(100).startswith(b"HTTP/1.1 100 ")
        visitor.sendall(body)
        return visitor

    def visitor(self, path: str = "/enhance", body: bytes = PHOTO, kind: str = "image/jpeg") -> socket.socket:
        """Post over a bare socket, which whoever called may close before the answer comes."""
        url = httpx.URL(self.url)
        visitor = socket.create_connection((url.host, url.port or 80), PATIENCE)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        visitor.sendall(head.encode() + body)
        return visitor

    def album_visitor(self, photos: int) -> socket.socket:
        """Post an album over a bare socket."""
        request = httpx.Request("POST", self.url, files=_files(photos))
        return self.visitor("/album", request.read(), request.headers["Content-Type"])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self) -> str:
        """Wait for its end, and return all that it printed."""
        self.process.wait(PATIENCE)
        return self.log.whole()

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        finally:
            self._visitors.shutdown(wait=False, cancel_futures=True)
            self.client.close()


@contextmanager
def serving(way: Way) -> Generator[App]:
    """Serve a backend while the block runs, and no longer; nothing of it is left behind."""
    way.folder.mkdir(exist_ok=True)
    with subprocess.Popen(  # noqa: S603
        way.command,
        env=way.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that its workers end with it, whatever becomes of it
    ) as process:
        assert process.stdout is not None
        log = Log(process.stdout)
        try:
            log.wait(lambda text: _address(text) or process.poll() is not None)
            url = _address(log.text)
            assert url, log.text
            app = App(process, log, url, way, _client_of(url))
            try:
                yield app
            finally:
                app.close()
        finally:
            _kill_all(process)


def _client_of(url: str) -> httpx.Client:
    # Workers tell that they have started a moment before they listen.
    transport = httpx.HTTPTransport(retries=6)
    return httpx.Client(transport=transport, base_url=url, timeout=PATIENCE, trust_env=False)


def _files(photos: int) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", (f"{number}.jpg", PHOTO)) for number in range(photos)]


def _address(text: str) -> str | None:
    found = re.search(r"unning on (http://127\.0\.0\.1:\d+)", text)
    return found[1] if found else None


def _kill_all(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # as it should be
