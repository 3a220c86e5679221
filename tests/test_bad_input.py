"""What callers hand in: bad photos and options are told before anything is sent, good ones arrive byte for byte."""

from __future__ import annotations

import asyncio
import functools
import io
import math
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from raw_server import (
    BIG_PHOTO,
    GOOD,
    IMAGE,
    KEY,
    PHOTO,
    RawServer,
    Wire,
    answer,
    answering,
    client,
)
from yarl import URL

from phota_async import ConnectionFailedError, ImageError, PhotaClient, RetryPolicy, Timeout

good = answering(GOOD)
BUSY = answer(b"{}", 503)


async def sent(photo: Any, *, refusals: int = 0, **options: Any) -> list[dict[str, Any]]:
    """Enhance one photo after so many refusals; return the documents that came."""
    async with RawServer(*[answering(BUSY)] * refusals, good) as server, client(server) as phota:
        result = await phota.enhance(photo, **options)
        assert result.attempts == refusals + 1
        assert server.connections == len(server.requests) == refusals + 1
        for request in server.requests:
            assert int(request.headers["Content-Length"]) == len(request.body)
            assert request.headers["Content-Type"] == "application/json"
        assert len({bytes(request.body) for request in server.requests}) == 1
        return [request.json for request in server.requests]


async def refused(photo: Any) -> ImageError:
    async with RawServer(good) as server, client(server) as phota:
        with pytest.raises(ImageError) as caught:
            await phota.enhance(photo)
        assert server.connections == 0
    error = caught.value
    assert isinstance(error, ValueError)
    assert not error.maybe_charged
    assert error.attempts == 0
    assert str(error).isprintable()
    assert len(str(error)) < 500
    str(error).encode()
    return error


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is no photo, whatever its name says")
    (tmp_path / "short.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "gif.jpg").write_bytes(b"GIF89a" + bytes(100))
    (tmp_path / "avif.heic").write_bytes(b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf" + bytes(100))
    (tmp_path / "sub.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    return tmp_path


# ---- paths


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.jpg", "No such file"),
        ("no/such/folder.jpg", "No such file"),
        ("sub.jpg", "directory"),
        ("empty.jpg", "empty"),
        ("text.jpg", "not a JPEG"),
        ("short.jpg", "not a JPEG"),
        ("gif.jpg", "not a JPEG"),
        ("avif.heic", "not a JPEG"),
        ("a.jpg/x", "Not a directory"),
        ("loop.jpg", "symbolic links"),
        ("dangling.jpg", "No such file"),
        ("pipe.jpg", "regular file"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
async def test_a_bad_path_is_named_with_the_reason(
    folder: Path, name: str, reason: str, kind: Callable[[Path], Any]
) -> None:
    given = kind(folder / name)
    if isinstance(given, bytes):
        given = _BytesPath(given)
    error = await refused(given)
    assert reason in str(error)
    assert name.rpartition("/")[2] in str(error)


class _BytesPath(os.PathLike[bytes]):
    def __init__(self, path: bytes) -> None:
        self.path = path

    def __fspath__(self) -> bytes:
        return self.path


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", ""),
        ("a\x00.jpg", "null"),
        ("x" * 300 + ".jpg", "too long"),
        ("x/" * 3000 + ".jpg", "too long"),
        ("\ud800.jpg", ""),
        ("caf\udce9.jpg", "No such file"),
        ("line\nbreak\x1b[2J.jpg", "No such file"),
        ("/dev/null", "regular file"),
        ("/proc/self/mem", ""),
        ("file:///etc/hostname", ""),
        ("httpx://h/a.jpg", ""),
    ],
)
async def test_an_odd_path_is_refused_in_one_readable_line(path: str, reason: str) -> None:
    error = await refused(path)
    assert reason in str(error)


@pytest.mark.parametrize("uri", ["data:image/png;base64,iVBORw0KGgo=", "DATA:,x", "data:" + "A" * 1_000_000])
async def test_a_data_uri_is_refused(uri: str) -> None:
    assert "data:" in str(await refused(uri))


@pytest.mark.parametrize("thing", [None, 5, 1.5, True, object(), [PHOTO], (PHOTO,), {"image": PHOTO}, {1}, len, Path])
async def test_a_thing_that_is_no_photo_is_named_by_its_type(thing: Any) -> None:
    assert type(thing).__name__ in str(await refused(thing))


@pytest.mark.parametrize("url", ["http://", "https://", "http:///a.jpg", "https://?a", "http://[::1", "http://h:x/a"])
async def test_a_url_without_a_host_is_refused(url: str) -> None:
    assert "http" in str(await refused(url))


@pytest.mark.parametrize("url", [URL("ftp://h/a.jpg"), URL("file:///a.jpg"), URL("a.jpg"), URL("data:,x"), URL()])
async def test_a_url_object_of_another_kind_is_refused(url: URL) -> None:
    await refused(url)


# ---- bytes


def _released() -> memoryview:
    view = memoryview(PHOTO)
    view.release()
    return view


@pytest.mark.parametrize(
    "data",
    [b"", bytearray(), memoryview(b""), b"text", memoryview(PHOTO * 2)[::2], memoryview(PHOTO)[::-1], _released()],
    ids=["empty", "empty array", "empty view", "text", "every second byte", "backwards", "released"],
)
async def test_bad_bytes_are_refused(data: Any) -> None:
    await refused(data)


@pytest.mark.parametrize(
    "data",
    [PHOTO, bytearray(PHOTO), memoryview(PHOTO), memoryview(bytes(7) + PHOTO)[7:], memoryview(PHOTO).cast("H")],
    ids=["bytes", "bytearray", "memoryview", "slice", "of two-byte items"],
)
async def test_bytes_arrive_unharmed(data: Any) -> None:
    for document in await sent(data, refusals=1):
        assert document["image"] == encoded(PHOTO)


def encoded(data: bytes) -> str:
    import base64  # noqa: PLC0415  (the plain one, on purpose: the package uses another)

    return base64.b64encode(data).decode()


# ---- sizes


SIZES = sorted(
    {1024 + extra for extra in range(4)}
    | {bound + extra for bound in (144 * 1024, 576 * 1024) for extra in range(-3, 4)}
    | {2 * 576 * 1024 + extra for extra in (-1, 0, 1)}
    | {4 + extra for extra in range(4)}
)


@pytest.fixture(scope="module")
def noise() -> bytes:
    return b"\xff\xd8\xff\xe0" + os.urandom(2 * 576 * 1024 + 10)


@pytest.mark.parametrize("size", SIZES)
async def test_a_photo_of_any_size_arrives_unharmed_at_every_attempt(size: int, noise: bytes, tmp_path: Path) -> None:
    data = noise[:size]
    path = tmp_path / "a.jpg"
    await asyncio.to_thread(path.write_bytes, data)
    with io.BytesIO(b"before" + data) as file:
        file.seek(6)
        for photo in (data, path, file):
            first, second = await sent(photo, refusals=1)
            assert first == second
            assert first == {
                "image": encoded(data),
                "output_format": "png",
                "response_mode": "bytes",
                "num_output_images": 1,
            }


# ---- files


async def opened(path: Path, mode: str = "rb", **options: Any) -> Any:
    return await asyncio.to_thread(functools.partial(open, path, mode, **options))


@pytest.mark.parametrize("buffering", [-1, 0])
async def test_an_open_file_is_read_from_where_it_stands(folder: Path, buffering: int) -> None:
    await asyncio.to_thread((folder / "a.jpg").write_bytes, b"header" + PHOTO)
    with await opened(folder / "a.jpg", buffering=buffering) as file:
        await asyncio.to_thread(file.seek, 6)
        for document in await sent(file, refusals=2):
            assert document["image"] == encoded(PHOTO)


@pytest.mark.parametrize("rolled", [True, False])
async def test_a_spooled_file_is_read(*, rolled: bool) -> None:
    with tempfile.SpooledTemporaryFile(max_size=10 if rolled else 10**6) as file:
        await asyncio.to_thread(file.write, PHOTO)
        await asyncio.to_thread(file.seek, 0)
        for document in await sent(file, refusals=1):
            assert document["image"] == encoded(PHOTO)


class _Once(io.RawIOBase):
    """A stream that gives its bytes once, a few at a time."""

    def __init__(self, data: bytes, step: int = 100) -> None:
        super().__init__()
        self.rest = data
        self.step = step

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        count = self.step if size < 0 else min(size, self.step)
        piece, self.rest = self.rest[:count], self.rest[count:]
        return piece


class _BareReader:
    """Only reads."""

    def __init__(self, data: bytes) -> None:
        self.inner = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self.inner.read(size)


@pytest.mark.parametrize("make", [_Once, _BareReader])
async def test_a_stream_that_can_be_read_once_is_sent_again_whole(make: Callable[[bytes], Any]) -> None:
    for document in await sent(make(PHOTO), refusals=2):
        assert document["image"] == encoded(PHOTO)


async def test_a_socket_or_pipe_is_sent_again_whole() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as writer:
        await asyncio.to_thread(writer.write, PHOTO)
    with os.fdopen(reading, "rb") as reader:
        for document in await sent(reader, refusals=1):
            assert document["image"] == encoded(PHOTO)


async def test_text_files_are_refused(folder: Path) -> None:
    with await opened(folder / "text.jpg", "r", encoding="utf-8") as file:
        assert "binary" in str(await refused(file))
    assert "binary" in str(await refused(io.StringIO("text")))


async def test_closed_files_are_refused(folder: Path) -> None:
    file = await opened(folder / "a.jpg")
    file.close()
    assert "a.jpg" in str(await refused(file))
    closed = io.BytesIO(PHOTO)
    closed.close()
    assert "closed" in str(await refused(closed))
    with tempfile.SpooledTemporaryFile() as spooled:
        pass
    await refused(spooled)


async def test_a_file_open_for_writing_only_is_refused(folder: Path) -> None:
    with await opened(folder / "new.jpg", "wb") as file:
        assert "new.jpg" in str(await refused(file))


class _UploadFile:
    """Like Starlette's."""

    filename = "photo.jpg"

    async def read(self, size: int = -1) -> bytes:
        raise AssertionError(size)


async def test_an_asynchronous_file_is_refused_with_advice() -> None:
    assert "await" in str(await refused(_UploadFile()))


class _Reading:
    def __init__(self, value: object) -> None:
        self.value = value

    def read(self, _: int = -1) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        value, self.value = self.value, b""
        return value


@pytest.mark.parametrize(
    "value",
    ["text", 5, ["x"], b"", None, OSError("the disk is gone"), ValueError("odd"), b"not a photo", EOFError("the end")],
)
async def test_a_file_that_reads_nonsense_is_refused(value: object) -> None:
    await refused(_Reading(value))


@pytest.mark.parametrize("at_end", [b"", PHOTO])
async def test_a_file_at_its_end_is_refused(at_end: bytes) -> None:
    file = io.BytesIO(at_end)
    file.seek(0, os.SEEK_END)
    assert "empty" in str(await refused(file))


# ---- URLs


@pytest.mark.parametrize(
    "url",
    [
        "https://photos.example/a.jpg",
        "http://photos.example:8080/a.jpg?x=1&y=%2F",
        "https://bucket.example/a%2fb.jpg?X-Amz-Credential=A%2FB&X-Amz-Signature=ab%3D%3D&n=%7Ea+b",
    ],
)
async def test_a_url_travels_as_it_was_given(url: str) -> None:
    for document in await sent(url, refusals=1):
        assert document["image"] == url


async def test_a_url_object_travels_as_its_text() -> None:
    url = URL("https://photos.example/a%2Fb.jpg?s=%2B", encoded=True)
    for document in await sent(url, refusals=1):
        assert document["image"] == str(url)


# ---- photos that change


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes()[:-1] + b"!")
    other.replace(path)


def overwrite(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))


def remove(path: Path) -> None:
    path.unlink()


CHANGES = [grow, shrink, replace, overwrite, remove]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_changes_between_two_attempts_is_an_error(
    folder: Path, change: Callable[[Path], None]
) -> None:
    path = folder / "a.jpg"

    async def refuse(wire: Wire) -> None:
        await wire.request()
        await asyncio.to_thread(change, path)
        await wire.send(BUSY)

    async with RawServer(refuse, good) as server, client(server) as phota:
        with pytest.raises(ImageError, match=r"a\.jpg") as caught:
            await phota.enhance(path)
        await server.quiet()
        assert [request.photo for request in server.requests] == [PHOTO]
    assert not caught.value.maybe_charged


@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_changes_while_it_is_sent_never_arrives_whole(
    folder: Path, change: Callable[[Path], None]
) -> None:
    path = folder / "a.jpg"
    await asyncio.to_thread(path.write_bytes, BIG_PHOTO)

    async def changing(wire: Wire) -> None:
        await wire.headers()
        await wire.body(0.1)
        await asyncio.to_thread(change, path)
        await wire.body()
        await wire.send(GOOD)

    async with RawServer(changing, receive_buffer=64 * 1024) as server, client(server) as phota:
        with pytest.raises(ImageError, match=r"a\.jpg") as caught:
            await phota.enhance(path)
        await server.quiet()
        assert server.requests == []
        assert server.connections == 1
    assert not caught.value.maybe_charged


async def test_a_file_that_changed_gives_its_slot_back(folder: Path) -> None:
    path = folder / "a.jpg"

    async def refuse(wire: Wire) -> None:
        await wire.request()
        await asyncio.to_thread(grow, path)
        await wire.send(BUSY)

    async with RawServer(refuse, good) as server, client(server, max_concurrency=1) as phota:
        with pytest.raises(ImageError):
            await phota.enhance(path)
        assert (await phota.enhance(PHOTO, timeout=10)).images[0].data == IMAGE


def close(file: BinaryIO) -> None:
    file.close()


def truncate(file: BinaryIO) -> None:
    file.truncate(100)


@pytest.mark.parametrize("spoil", [close, truncate])
async def test_a_file_object_that_is_spoilt_between_two_attempts_is_an_error(spoil: Callable[[BinaryIO], None]) -> None:
    file = io.BytesIO(PHOTO)

    async def refuse(wire: Wire) -> None:
        await wire.request()
        spoil(file)
        await wire.send(BUSY)

    async with RawServer(refuse, good) as server, client(server) as phota:
        with pytest.raises(ImageError):
            await phota.enhance(file)
        await server.quiet()
        assert len(server.requests) == 1


async def test_a_stream_that_fails_while_it_is_sent_is_an_error() -> None:
    class Failing(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            if self.reads > 2:
                raise OSError("the disk is gone")
            return super().read(size)

    async with RawServer(good) as server, client(server) as phota:
        with pytest.raises(ImageError, match="the disk is gone"):
            await phota.enhance(Failing(BIG_PHOTO))
        await server.quiet()
        assert server.requests == []


async def test_a_bytearray_may_be_changed_again_after_the_call() -> None:
    data = bytearray(PHOTO)
    await sent(data)
    data += b"more"  # a view that was left behind would forbid this


# ---- options of a call


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("num_output_images", value) for value in (0, 5, -1, True, "2", 1.0, None, [1])],
        *[("output_format", value) for value in ("webp", "PNG", "", None, 1, ["png"])],
        *[("response_mode", value) for value in ("url", "", None, 1, ["urls"])],
        *[("profile_ids", value) for value in ("abc", b"abc", 5, None, [1], [None], [""], ["a", 2], [b"a"])],
        *[("prompt", value) for value in (5, b"text", ["text"], True)],
        *[("timeout", value) for value in (0, -1, math.nan, math.inf, True, "5", [1])],
        pytest.param("timeout", 10**400, id="timeout-beyond-floats"),
    ],
)
async def test_a_bad_option_is_named_and_nothing_is_sent(name: str, value: Any) -> None:
    async with RawServer(good) as server, client(server) as phota:
        with pytest.raises(ValueError, match=name):
            await phota.enhance(PHOTO, **{name: value})
        with pytest.raises(ValueError, match=name):
            await phota.enhance_many([PHOTO], **{name: value})
        assert server.connections == 0


async def test_options_travel_as_they_were_given() -> None:
    prompt = 'so"ft\\ \n ü 😀 \ud800'
    (document,) = await sent(
        PHOTO,
        prompt=prompt,
        profile_ids=(name for name in ("a", "b")),
        num_output_images=4,
        output_format="jpg",
        response_mode="urls",
    )
    assert document["prompt"] == prompt
    assert document["profile_ids"] == ["a", "b"]
    assert (document["num_output_images"], document["output_format"], document["response_mode"]) == (4, "jpg", "urls")


async def test_the_output_format_is_always_sent() -> None:
    (document,) = await sent(PHOTO)
    assert document["output_format"] == "png"


# ---- options of a client


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_key", ""),
        ("api_key", 5),
        ("api_key", "two words"),
        *[
            ("base_url", value)
            for value in ("ftp://h", "h/v1", "/v1", "https://", "http://[::1", 5, "https://h:x", "https://h/?a=1")
        ],
        *[
            ("base_url", value)
            for value in ("http://example.com/v1", "http://192.168.0.2", "http://localhost.example.com")
        ],
        *[("max_concurrency", value) for value in (0, -1, True, 1.5, "4", None)],
        *[("max_queue", value) for value in (-1, True, 1.5, "4")],
        *[("timeout", value) for value in (5, None, "5")],
        *[("retry", value) for value in (3, None)],
        *[("max_response_bytes", value) for value in (0, -1, True, 1e6, None)],
        *[("proxy", value) for value in ("socks5://h:1", "http://", 5, True)],
        *[("allow_http", value) for value in ("yes", 1, None)],
        *[("session", value) for value in (5, "session", object())],
        *[("trace_configs", value) for value in (5, None, ["x"], [1])],
        *[("on_retry", value) for value in (5, "hook")],
    ],
)
def test_a_bad_option_of_a_client_is_named(name: str, value: Any) -> None:
    options: dict[str, Any] = {"api_key": KEY, name: value}
    with pytest.raises(ValueError, match=name):
        PhotaClient(**options)


@pytest.mark.parametrize(
    "name", ["api_key", "base_url", "timeout", "retry", "max_response_bytes", "allow_http", "on_retry"]
)
def test_a_bad_option_of_a_copy_is_named(name: str) -> None:
    phota, options = PhotaClient(KEY), dict[str, Any]({name: object()})
    with pytest.raises(ValueError, match=name):
        phota.with_options(**options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("connect", "attempt", "overall") for value in (0, -1, math.nan, True, "5")],
    ],
)
def test_a_bad_timeout_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Timeout(**{name: value})


@pytest.mark.parametrize("name", ["connect", "attempt", "overall"])
async def test_a_timeout_of_infinity_is_refused_or_works(name: str) -> None:
    try:
        timeout = Timeout(**{name: math.inf})
    except ValueError:
        return
    async with RawServer(good) as server, client(server, timeout=timeout) as phota:
        assert (await phota.enhance(PHOTO)).attempts == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("max_attempts", value) for value in (0, -1, True, 1.5, "3", None)],
        *[
            (name, value)
            for name in ("initial_wait", "max_wait", "max_retry_after")
            for value in (-1, math.nan, math.inf, True, "1")
        ],
        *[("statuses", value) for value in ({200}, {"503"}, 503, None, "503", {True}, {600})],
        *[("retry_unknown", value) for value in (1, "yes", None)],
    ],
)
def test_a_bad_policy_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        RetryPolicy(**{name: value})


# ---- key and address


def test_a_missing_key_names_the_variable() -> None:
    with pytest.raises(ValueError, match="PHOTA_API_KEY"):
        PhotaClient()


async def test_key_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RawServer(good) as server:
        monkeypatch.setenv("PHOTA_API_KEY", "from-outside")
        monkeypatch.setenv("PHOTA_BASE_URL", f"{server.url}/some/base/")
        async with PhotaClient() as phota:
            await phota.enhance(PHOTO)
        async with PhotaClient("given", base_url=f"{server.url}/other") as phota:
            await phota.enhance(PHOTO)
        seen = [(request.target, request.headers["X-Api-Key"]) for request in server.requests]
        assert seen == [("/some/base/enhance", "from-outside"), ("/other/enhance", "given")]


def test_plain_http_from_the_environment_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTA_BASE_URL", "http://api.example/v1")
    with pytest.raises(ValueError, match="allow_http"):
        PhotaClient(KEY)
    PhotaClient(KEY, allow_http=True)


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost:1", "[::1]:1", "127.3.2.1", "box.localhost"])
def test_plain_http_to_loopback_is_allowed(host: str) -> None:
    PhotaClient(KEY, base_url=f"http://{host}/v1")


@pytest.mark.parametrize(
    "host", ["0.0.0.1", "127.0.0.1.example.com", "[::ffff:8.8.8.8]", "10.0.0.1", "api", "2130706433"]
)
def test_plain_http_to_anywhere_else_needs_allow_http(host: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        PhotaClient(KEY, base_url=f"http://{host}/v1")
    PhotaClient(KEY, base_url=f"http://{host}/v1", allow_http=True)


def test_a_client_can_be_built_outside_a_loop_and_shows_no_key() -> None:
    phota = PhotaClient(KEY)
    assert "api.photalabs.com/v1/phota" in repr(phota)
    assert KEY not in repr(phota)


async def test_a_proxy_that_is_not_there_is_a_failed_connection() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        proxy = f"http://user:{KEY}@127.0.0.1:{bound.getsockname()[1]}"
        async with PhotaClient(
            KEY, base_url="https://something.invalid", proxy=proxy, retry=RetryPolicy(max_attempts=1)
        ) as phota:
            with pytest.raises(ConnectionFailedError) as caught:
                await phota.enhance(PHOTO)
    assert KEY not in str(caught.value)
