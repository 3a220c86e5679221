"""Photos on their way in: every kind of source, every refusal, and nothing that changes on the way goes unnoticed."""

from __future__ import annotations

import array
import gzip
import io
import mmap
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from yarl import URL

from phota_async.errors import ImageError
from phota_async.images import BLOCK_BYTES, Photo, RemotePhoto, open_photo, photos_in
from phota_async.images.streams import MAX_UNSEEKABLE_BYTES

JPEG = b"\xff\xd8\xff\xe0" + b"rest of it" * 10
PNG = b"\x89PNG\r\n\x1a\n" + b"rest of it" * 10


def long_photo(size: int = 2 * BLOCK_BYTES + 77) -> bytes:
    return JPEG + random.Random(size).randbytes(size - len(JPEG))  # noqa: S311  (the same each time)


async def opened(image: object) -> Photo:
    photo = await open_photo(image)
    assert not isinstance(photo, RemotePhoto)
    return photo


async def read(photo: Photo) -> bytes:
    blocks = [bytes(block) async for block in photo.blocks()]
    assert all(len(block) == BLOCK_BYTES for block in blocks[:-1])
    assert sum(map(len, blocks)) == photo.size
    return b"".join(blocks)


class BytesPath:
    """A path whose name is bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self._path)


class Trickle(io.RawIOBase):
    """A raw stream that gives little at once, whatever is asked for."""

    def __init__(self, data: bytes, *, seekable: bool) -> None:
        self._inner = io.BytesIO(data)
        self._seekable = seekable

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable

    def tell(self) -> int:
        return self._inner.tell()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._inner.seek(offset, whence)

    def read(self, size: int = -1, /) -> bytes:
        return self._inner.read(min(size, 40_001))


class OnlyRead:
    """The least that counts as a file object."""

    def __init__(self, *pieces: Any) -> None:
        self._pieces = [*pieces]

    def read(self, _: int, /) -> Any:
        return self._pieces.pop(0) if self._pieces else b""


# ---- sources


@pytest.mark.parametrize(
    "size", [200, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 77]
)
async def test_every_source_is_read_whole_and_again_for_each_attempt(tmp_path: Path, size: int) -> None:
    data = long_photo(size)
    path = tmp_path / "photo.any"
    path.write_bytes(data)
    with path.open("rb") as buffered, path.open("rb", buffering=0) as raw:
        for source in (
            path,
            str(path),
            BytesPath(path),
            data,
            bytearray(data),
            memoryview(data),
            array.array("B", data),
            io.BytesIO(data),
            buffered,
            raw,
            Trickle(data, seekable=True),
            Trickle(data, seekable=False),
            OnlyRead(data[:50], data[50:]),
        ):
            photo = await opened(source)
            assert photo.size == size
            assert await read(photo) == data
            assert await read(photo) == data


async def test_a_file_object_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"something before" + long_photo())
    file.seek(16)
    photo = await opened(file)
    assert photo.size == len(long_photo())
    assert file.tell() == 16
    assert await read(photo) == long_photo()


async def test_memory_of_other_shapes_is_read_as_bytes() -> None:
    words = array.array("I", JPEG[:100])
    assert await read(await opened(words)) == JPEG[:100]
    with mmap.mmap(-1, 4096) as pages:
        pages[: len(JPEG)] = JPEG
        view = memoryview(pages)
        photo = await opened(view)
        assert await read(photo) == pages[:]
        del photo
        view.release()


async def test_a_pipe_and_a_decompressing_file_can_be_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    writer = threading.Thread(target=_write, args=(writing, long_photo()))
    writer.start()
    with os.fdopen(reading, "rb") as pipe:
        assert await read(await opened(pipe)) == long_photo()
    writer.join()
    (tmp_path / "a.gz").write_bytes(gzip.compress(PNG))
    with gzip.GzipFile(tmp_path / "a.gz") as file:
        assert await read(await opened(file)) == PNG


def _write(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


@pytest.mark.parametrize(
    ("image", "url", "name"),
    [
        ("https://a.example/b.jpg?s=1", "https://a.example/b.jpg?s=1", "https://a.example/b.jpg"),
        ("http://a.example/", "http://a.example/", "http://a.example/"),
        (URL("https://a.example/b"), "https://a.example/b", "https://a.example/b"),
        (URL("http://user:pass@a.example/b"), "http://user:pass@a.example/b", "http://a.example/b"),
    ],
)
async def test_a_url_is_left_to_the_service(image: str | URL, url: str, name: str) -> None:
    photo = await open_photo(image)
    assert photo == RemotePhoto(url)
    assert photo.name == name


async def test_names_are_what_messages_want(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(JPEG)
    assert (await opened(path)).name == str(path)
    assert (await opened(JPEG)).name == f"the photo of {len(JPEG)} bytes"
    assert (await opened(io.BytesIO(JPEG))).name == "file object <BytesIO>"
    with path.open("rb") as file:
        assert (await opened(file)).name == f"file object {path}"
    assert "rest of it" not in repr(await opened(JPEG))


# ---- refusals


REFUSED: list[tuple[Callable[[Path], object], str]] = [
    (lambda place: place / "missing.jpg", "missing.jpg: No such file"),
    (lambda place: str(place / "missing.jpg"), "missing.jpg: No such file"),
    (lambda place: place, "is a directory"),
    (lambda _: "", "is a directory"),
    (lambda place: place / "empty.jpg", "empty.jpg is empty"),
    (lambda place: place / "text.jpg", "text.jpg is not a JPEG, PNG, WebP or HEIC photo"),
    (lambda place: place / "pipe.jpg", "pipe.jpg is not a regular file"),
    (lambda place: place / "circle.jpg", "circle.jpg: Too many levels"),
    (lambda place: place / "dangling.jpg", "dangling.jpg: No such file"),
    (lambda place: place / "text.jpg" / "below", "Not a directory"),
    (lambda place: place / ("a" * 300), "too long"),
    (lambda _: "a\0b.jpg", "is not a path"),
    (lambda _: "\ud800.jpg", "is not a path"),
    (lambda _: "data:image/png;base64,AAAA", "a data: URI is not accepted"),
    (lambda _: "DATA:,", "a data: URI is not accepted"),
    (lambda _: "http://", "not an http or https URL with a host"),
    (lambda _: "https://:443/", "not an http or https URL with a host"),
    (lambda _: "https://a.example:99999/", "not an http or https URL with a host"),
    (lambda _: URL("ftp://a.example/b.jpg?c=d"), "not an http or https URL with a host: 'ftp://a.example/b.jpg'$"),
    (lambda _: URL("b.jpg"), "not an http or https URL with a host"),
    (lambda _: b"", "is empty"),
    (lambda _: bytearray(), "is empty"),
    (lambda _: array.array("I"), "is empty"),
    (lambda _: b"GIF89a", "the photo of 6 bytes is not a JPEG"),
    (lambda _: io.BytesIO(), "file object <BytesIO> is empty"),
    (lambda _: io.BytesIO(b"plain"), "is not a JPEG"),
    (lambda _: OnlyRead(), "is empty"),
    (lambda _: OnlyRead(b"plain"), "is not a JPEG"),
    (lambda _: OnlyRead(None), "is empty"),
    (lambda _: OnlyRead("text"), r"read\(\) returned str, not bytes"),
    (lambda _: io.StringIO("text"), "open as text"),
    (lambda place: (place / "text.jpg").open(), "open as text"),
    (lambda place: _closed(place / "text.jpg"), "closed file"),
    (lambda place: (place / "text.jpg").open("ab"), "cannot read file object"),
    (lambda _: None, "not NoneType"),
    (lambda _: 7, "not int"),
    (lambda _: ["a.jpg"], "not list"),
    (lambda _: {"image": b""}, "not dict"),
    (lambda _: object(), "not object"),
    (lambda _: memoryview(JPEG)[::2], "not in one piece of memory"),
    (lambda _: _released(), "a photo is a path, bytes"),
]


@pytest.mark.parametrize(("make", "told"), REFUSED, ids=[told for _, told in REFUSED])
async def test_what_cannot_be_used_is_refused_before_anything_is_sent(
    tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"this is plain text")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    image = make(tmp_path)
    try:
        with pytest.raises(ImageError, match=told) as caught:
            await open_photo(image)
    finally:
        if isinstance(image, io.IOBase):
            image.close()
    assert not caught.value.maybe_charged
    assert len(str(caught.value)) < 300
    assert len(str(caught.value).splitlines()) == 1


def _closed(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        return file


def _released() -> memoryview:
    view = memoryview(JPEG)
    view.release()
    return view


async def test_a_file_that_reads_asynchronously_is_refused_with_advice() -> None:
    class Upload:
        name = "upload.jpg"

        async def read(self, size: int = -1) -> bytes:
            return JPEG[:size]

    with pytest.raises(ImageError, match=r"upload\.jpg reads asynchronously; pass `await file\.read\(\)`"):
        await open_photo(Upload())


async def test_a_stream_that_does_not_end_is_refused() -> None:
    class Endless:
        piece = JPEG + bytes(2**24)

        def read(self, _: int, /) -> bytes:
            return self.piece

    with pytest.raises(ImageError, match=f"goes on beyond {MAX_UNSEEKABLE_BYTES} bytes"):
        await open_photo(Endless())


@pytest.mark.parametrize("secret", ["https://user:pass@/a", "http://:1/?signature=secret"])
async def test_a_refused_url_does_not_show_its_secrets(secret: str) -> None:
    with pytest.raises(ImageError) as caught:
        await open_photo(secret)
    assert "pass" not in str(caught.value)
    assert "secret" not in str(caught.value)


# ---- what changes between opening and sending


def _touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "shorter": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "changed while it was being sent"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "changed while it was being sent"),
    "emptied": (lambda path: path.write_bytes(b""), "changed while it was being sent"),
    "touched": (_touched, "changed while it was being sent"),
    "replaced": (_replaced, "changed while it was being sent"),
    "removed": (Path.unlink, "No such file"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_a_file_that_changes_is_noticed_at_the_next_block(tmp_path: Path, change: str, taken: int) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(long_photo())
    photo = await opened(path)
    blocks = photo.blocks()
    for _ in range(taken):
        await anext(blocks)
    alter, told = CHANGES[change]
    alter(path)
    with pytest.raises(ImageError, match=told):
        await anext(blocks)
    await blocks.aclose()


async def test_a_file_object_that_becomes_shorter_is_noticed() -> None:
    file = io.BytesIO(long_photo())
    photo = await opened(file)
    file.truncate(BLOCK_BYTES + 5)
    with pytest.raises(ImageError, match="file object <BytesIO> became shorter"):
        await read(photo)


async def test_a_file_object_that_was_closed_is_noticed() -> None:
    file = io.BytesIO(long_photo())
    photo = await opened(file)
    file.close()
    with pytest.raises(ImageError, match="cannot read file object <BytesIO>"):
        await read(photo)


async def test_a_file_object_that_begins_to_give_text_is_noticed() -> None:
    class Turning(io.BytesIO):
        turned = False

        def read(self, size: int | None = -1, /) -> Any:
            return "text" if self.turned else super().read(size)

    file = Turning(JPEG)
    photo = await opened(file)
    file.turned = True
    with pytest.raises(ImageError, match="returned str"):
        await read(photo)


async def test_memory_cannot_be_taken_away_while_it_is_being_sent() -> None:
    data = bytearray(JPEG)
    photo = await opened(data)
    with pytest.raises(BufferError):
        data.clear()
    assert await read(photo) == JPEG


async def test_nothing_is_held_open_between_blocks(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(long_photo())
    held = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: ASYNC240, PTH112, PTH208
    blocks = (await opened(path)).blocks()
    await anext(blocks)
    now = len(os.listdir("/proc/self/fd")) if held else 0  # noqa: PTH208
    assert now <= held
    await blocks.aclose()


# ---- folders


async def test_the_photos_of_a_tree_come_sorted_by_path(tmp_path: Path) -> None:
    def put(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    expected = [
        put("a.jpg", JPEG),
        put("b/A.PNG", PNG),
        put("b/told by its bytes", PNG),
        put("b/d.e/x.HEIC", b"only the extension"),
        put("empty.webp", b""),
        put("wrong.txt", JPEG),
        put("z.jpeg", JPEG),
    ]
    for name in ("notes.txt", "b/page.html", "no extension", "film.mp4", "b/empty"):
        put(name, b"" if name.endswith("empty") else b"no photo")
    for name in (".hidden.jpg", ".folder/a.jpg", "b/.thumbs/b.png"):
        put(name, JPEG)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe")
    assert await photos_in(tmp_path) == sorted([*expected, tmp_path / "link.jpg"])


async def test_of_a_file_it_is_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"no photo")
    assert await photos_in(tmp_path / "a.txt") == [tmp_path / "a.txt"]


async def test_an_empty_folder_holds_no_photos(tmp_path: Path) -> None:
    assert await photos_in(tmp_path) == []


@pytest.mark.parametrize("name", ["missing", "a\0b"])
async def test_a_folder_that_cannot_be_read_is_an_image_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError):
        await photos_in(tmp_path / name)
