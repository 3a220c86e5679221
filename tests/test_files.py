"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

from phota_async import EnhancedImage, files
from phota_async.files import PARTIAL_SUFFIX, Partial
from phota_async.formats import media_type

DATA = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


async def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = await files.save(tmp_path / "a.png", DATA, ".png")
    assert path == tmp_path / "a.png"
    assert path.read_bytes() == DATA
    assert names(tmp_path) == ["a.png"]


async def test_missing_parents_are_made(tmp_path: Path) -> None:
    path = await files.save(str(tmp_path / "x" / "y" / "a.png"), DATA, ".png")
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("existing", [True, False])
async def test_into_a_directory_a_file_is_named_by_its_content(tmp_path: Path, existing: bool) -> None:  # noqa: FBT001
    target = str(tmp_path) if existing else f"{tmp_path}/new/"
    one = await files.save(target, DATA, ".png")
    assert await files.save(target, DATA, ".png") == one
    other = await files.save(target, DATA + b"x", ".jpg")
    assert one.parent == other.parent == (tmp_path if existing else tmp_path / "new")
    assert (one.suffix, other.suffix) == (".png", ".jpg")
    assert len(names(one.parent)) == 2


async def test_a_file_that_stands_there_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old" * 100_000)
    await files.save(target, DATA, ".png")
    assert target.read_bytes() == DATA
    assert names(tmp_path) == ["a.png"]


async def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    aim, link = tmp_path / "aim", tmp_path / "a.png"
    aim.write_bytes(b"untouched")
    link.symlink_to(aim)
    await files.save(link, DATA, ".png")
    assert not link.is_symlink()
    assert link.read_bytes() == DATA
    assert aim.read_bytes() == b"untouched"


async def test_a_dangling_link_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "a.png"
    link.symlink_to(tmp_path / "nowhere")
    await files.save(link, DATA, ".png")
    assert not link.is_symlink()
    assert names(tmp_path) == ["a.png"]


async def test_a_link_to_a_directory_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    path = await files.save(tmp_path / "link", DATA, ".png")
    assert path.parent == tmp_path / "link"
    assert len(list((tmp_path / "folder").iterdir())) == 1


@pytest.mark.usefixtures("umask")
async def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    path = await files.save(tmp_path / "a.png", DATA, ".png")
    assert path.stat().st_mode & 0o777 == 0o640


async def test_a_name_of_the_greatest_length_can_be_saved(tmp_path: Path) -> None:
    path = await files.save(tmp_path / ("a" * 251 + ".png"), DATA, ".png")
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("blocked", ["file as parent", "name too long", "nul"])
async def test_a_place_that_cannot_be_written_is_an_error_and_stays_as_it_was(tmp_path: Path, blocked: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    target = {
        "file as parent": tmp_path / "file" / "a.png",
        "name too long": tmp_path / ("a" * 300),
        "nul": tmp_path / "a\0b",
    }[blocked]
    with pytest.raises((OSError, ValueError)):
        await files.save(target, DATA, ".png")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"x"


FULL_DISK = """
import asyncio, resource, sys
from phota_async import EnhancedImage

async def main():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        await EnhancedImage(bytes(200_000)).save(sys.argv[1])
    except OSError as error:
        print(type(error).__name__, error.errno)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit for the size of a file")
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_what_was_there_and_no_half_file(tmp_path: Path, there: bool) -> None:  # noqa: FBT001
    target = tmp_path / "a.png"
    if there:
        target.write_bytes(b"old")
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", FULL_DISK, str(target)], capture_output=True, text=True, check=True, timeout=50
    )
    assert run.stdout.startswith("OSError")
    assert names(tmp_path) == (["a.png"] if there else [])
    assert not there or target.read_bytes() == b"old"


# ---- in pieces


def test_a_partial_file_is_hidden_beside_its_place_until_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    with Partial(target) as partial:
        assert names(tmp_path) == []
        partial.write(0, b"abc")
        (name,) = names(tmp_path)
        assert name.startswith(".")
        assert name.endswith(PARTIAL_SUFFIX)
        partial.write(3, b"def")
        partial.finish()
        assert target.read_bytes() == b"abcdef"
    assert names(tmp_path) == ["a.png"]


def test_writing_again_drops_whatever_followed(tmp_path: Path) -> None:
    with Partial(tmp_path / "a") as partial:
        partial.write(0, b"abcdefgh")
        partial.write(2, b"XY")
        partial.finish()
    assert (tmp_path / "a").read_bytes() == b"abXY"
    with Partial(tmp_path / "a") as partial:
        partial.write(0, b"long beginning")
        partial.write(0, b"new")
        partial.finish()
    assert (tmp_path / "a").read_bytes() == b"new"


def test_what_is_not_finished_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Partial(tmp_path / "a") as partial:  # noqa: PT012
        partial.write(0, DATA)
        raise ZeroDivisionError
    with Partial(tmp_path / "a") as partial:
        partial.write(0, DATA)
    assert names(tmp_path) == []
    partial.discard()


def test_a_directory_in_the_place_of_the_file_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a" / "inside").mkdir(parents=True)
    with Partial(tmp_path / "a") as partial:
        partial.write(0, DATA)
        with pytest.raises(OSError, match="a"):
            partial.finish()
    assert names(tmp_path) == ["a", "a/inside"]


def test_two_partial_files_of_one_target_do_not_disturb_each_other(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with Partial(target) as one, Partial(target) as other:
        one.write(0, b"one")
        other.write(0, b"other")
        one.finish()
        assert target.read_bytes() == b"one"
        other.finish()
    assert target.read_bytes() == b"other"
    assert names(tmp_path) == ["a"]


def test_a_reader_sees_the_old_file_or_the_new_one_and_never_a_half(tmp_path: Path) -> None:
    target, old, new = tmp_path / "a", b"o" * 500_000, b"n" * 500_000
    target.write_bytes(old)
    seen, done = set[bytes](), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(target.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for data in (new, old) * 15:
            with Partial(target) as partial:
                for start in range(0, len(data), 100_000):
                    partial.write(start, data[start : start + 100_000])
                partial.finish()
    finally:
        done.set()
        reader.join()
    assert seen <= {old, new}


def test_a_thread_that_was_left_writing_leaves_nothing(tmp_path: Path) -> None:
    partial = Partial(tmp_path / "a")
    partial.write(0, b"abc")
    partial.discard()
    partial.write(3, b"def")
    partial.discard()
    assert names(tmp_path) == []


def test_what_is_discarded_while_it_is_written_leaves_nothing(tmp_path: Path) -> None:
    for _ in range(50):
        partial = Partial(tmp_path / "a")
        writer = threading.Thread(target=partial.write, args=(0, DATA))
        writer.start()
        partial.discard()
        writer.join()
    assert names(tmp_path) == []


def test_the_first_bytes_are_told(tmp_path: Path) -> None:
    with Partial(tmp_path / "a") as partial:
        partial.write(0, DATA)
        assert DATA.startswith(partial.head())
        assert media_type(partial.head()) == "image/png"


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_a_copy_is_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "original").write_bytes(b"0123456789abcde" * (size // 15) + b"." * (size % 15))
    with Partial(tmp_path / "copy") as partial:
        partial.write(0, b"")
        partial.copy(tmp_path / "original")
        partial.finish()
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "original").read_bytes()


# ---- under a name that nothing else has


def test_a_new_file_appears_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    with Partial(tmp_path / "a") as partial:
        partial.write(0, DATA)
        assert partial.finish_new(tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == DATA
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").stat().st_nlink == 1


@pytest.mark.parametrize("there", ["other", "same", "link to the same", "broken link", "folder"])
@pytest.mark.parametrize("hard_links", [True, False])
def test_what_stands_there_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, *, hard_links: bool
) -> None:
    if not hard_links:
        monkeypatch.setattr(os, "link", _no_links)
    target = tmp_path / "a"
    if there == "folder":
        target.mkdir()
    elif there == "broken link":
        target.symlink_to(tmp_path / "nothing")
    elif there == "link to the same":
        (tmp_path / "aim").write_bytes(DATA)
        target.symlink_to(tmp_path / "aim")
    else:
        target.write_bytes(DATA if there == "same" else DATA[::-1])
    before = names(tmp_path)
    with Partial(target) as partial:
        partial.write(0, DATA)
        assert partial.finish_new(target) is (there == "same")
    assert names(tmp_path) == before
    assert target.is_symlink() is ("link" in there)


def _no_links(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_where_there_are_no_hard_links_a_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _no_links)
    with Partial(tmp_path / "a") as partial:
        partial.write(0, DATA)
        assert partial.finish_new(tmp_path / "b")
    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == DATA


def test_a_place_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with Partial(tmp_path / "a") as partial:
        partial.write(0, DATA)
        with pytest.raises(FileNotFoundError):
            partial.finish_new(tmp_path / "gone" / "a")
    assert names(tmp_path) == []


def test_leftovers_are_those_with_the_mark(tmp_path: Path) -> None:
    one, other = Partial(tmp_path / "a", "run-"), Partial(tmp_path / "b")
    for partial in (one, other):
        partial.write(0, DATA)
    (tmp_path / ".phota-run-x").write_bytes(b"")
    (left,) = files.leftovers(tmp_path, "run-")
    assert left.name.startswith(".phota-run-")
    assert list(files.leftovers(tmp_path / "missing", "run-")) == []


# ---- folders


def test_folders_are_made_where_they_are_missing(tmp_path: Path) -> None:
    for _ in range(2):
        assert files.make_folders(tmp_path, PurePath("x/y/z")) == tmp_path / "x" / "y" / "z"
    assert files.make_folders(tmp_path, PurePath()) == tmp_path
    assert names(tmp_path) == ["x", "x/y", "x/y/z"]


def test_the_folder_itself_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.make_folders(tmp_path / "gone", PurePath("x"))
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "broken link", "file"])
@pytest.mark.parametrize("below", ["x", "x/y"])
def test_nothing_is_made_through_a_link_or_a_file(tmp_path: Path, kind: str, below: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    if kind == "file":
        (tmp_path / "x").write_bytes(b"")
    else:
        (tmp_path / "x").symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nothing"))
    with pytest.raises(NotADirectoryError, match="in the way of a folder" if kind == "file" else "is a link"):
        files.make_folders(tmp_path, PurePath(below))
    assert names(tmp_path) == ["elsewhere", "x"]


def test_a_root_is_made_with_all_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert files.make_root(Path("x/y")) == tmp_path / "x" / "y"
    assert names(tmp_path) == ["x", "x/y"]


@pytest.mark.parametrize("place", ["file", "file/sub"])
def test_a_root_that_cannot_be_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match="file"):
        files.make_root(tmp_path / place)
    assert names(tmp_path) == ["file"]


def test_leftovers_are_cleared_but_not_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    Partial(tmp_path / "real" / "a", "run-").write(0, DATA)
    Partial(tmp_path / "real" / "b").write(0, DATA)
    files.clear(tmp_path, PurePath("link"), "run-")
    assert len(list((tmp_path / "real").iterdir())) == 2
    files.clear(tmp_path, PurePath("real"), "run-")
    (left,) = (tmp_path / "real").iterdir()
    assert "run-" not in left.name
    files.clear(tmp_path, PurePath("missing"), "run-")


async def test_an_empty_image_can_be_saved(tmp_path: Path) -> None:
    path = await EnhancedImage(b"").save(tmp_path)
    assert (path.suffix, path.read_bytes()) == (".bin", b"")
