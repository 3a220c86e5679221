"""Photos on the disk: looked at, named in messages, read and hashed whole, and known again."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from anyio import to_thread

from phota_async.errors import ImageError
from phota_async.images.paths import File, Stamp, look
from phota_async.images.photo import BLOCK_BYTES, shown

HEAD = b"\xff\xd8\xff\xe0"


class SlowDisk:
    """A file of which a read gives little at once, whatever is asked for, as some network disks do."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, *_: Any, **__: Any) -> io.FileIO:
        return _Trickle(self._path)


class _Trickle(io.FileIO):
    def readinto(self, buffer: Any, /) -> int | None:
        return super().readinto(memoryview(buffer)[:100_001])


# ---- looked at


def test_of_a_large_file_only_the_head_is_held(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.write(HEAD)
        file.truncate(64 * 2**20)
    tracemalloc.start()
    try:
        assert look(tmp_path / "a.jpg").size == 64 * 2**20
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("n" * 119, "n" * 119), ("n" * 120, "n" * 120), ("n" * 121, "n" * 119 + "…"), ("n" * 999, "n" * 119 + "…")],
    ids=lambda name: str(len(name)),
)
def test_a_message_shows_at_most_120_characters_of_a_name(name: str, expected: str) -> None:
    assert shown(Path(name)) == expected


@pytest.mark.parametrize("fact", ["st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"])
def test_another_place_size_or_time_is_another_file(tmp_path: Path, fact: str) -> None:
    status = tmp_path.stat()
    facts = {name: getattr(status, name) for name in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")}
    other = cast("os.stat_result", SimpleNamespace(**facts | {fact: facts[fact] + 1}))
    assert Stamp.of(status) == Stamp.of(tmp_path.stat())
    assert Stamp.of(status) != Stamp.of(other)


# ---- read and hashed


async def test_a_photo_on_a_disk_that_gives_little_at_once_is_read_whole(tmp_path: Path) -> None:
    data = HEAD + os.urandom(2 * BLOCK_BYTES)
    (tmp_path / "a.jpg").write_bytes(data)
    stamp = (await to_thread.run_sync(look, tmp_path / "a.jpg")).stamp
    slow = File(cast("Path", SlowDisk(tmp_path / "a.jpg")), stamp)
    assert b"".join([bytes(block) async for block in slow.blocks()]) == data
    assert await to_thread.run_sync(slow.sha256) == hashlib.sha256(data).digest()


@pytest.mark.parametrize("size", [100, 2**18, 2**18 + 1, 3 * 2**18])
def test_a_photo_is_hashed_whole(tmp_path: Path, size: int) -> None:
    data = HEAD + b"x" * (size - 4)
    (tmp_path / "a.jpg").write_bytes(data)
    assert look(tmp_path / "a.jpg").sha256() == hashlib.sha256(data).digest()


def test_a_photo_that_has_changed_since_it_was_looked_at_is_not_hashed(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(HEAD + bytes(100))
    file = look(path)
    path.write_bytes(HEAD + bytes(200))
    with pytest.raises(ImageError, match="changed while it was being read"):
        file.sha256()
    path.unlink()
    with pytest.raises(ImageError, match=r"cannot read .*a\.jpg: No such file"):
        file.sha256()
