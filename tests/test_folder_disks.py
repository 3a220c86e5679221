"""Folder runs on disks that fill up, vanish, take nothing, or change under the run; and what stands in the way."""

from __future__ import annotations

import gc
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from folder_process import JOURNAL, KILLED, Driver, Ended, Scene, draw, noise, sandbox

from phota_async.journal import LOCK_NAME, NAME
from phota_async.sandbox import Fault

STEP = 1 if os.environ.get("EVERY_OPERATION") else 4
NOBODY = 65534
SLOW = Fault(stall=0.3, charged=True)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there"),
    # aiohttp, serving a file, leaves it to the collector when the client dies while it is being opened.
    pytest.mark.filterwarnings("ignore:unclosed file .*phota-sandbox-:ResourceWarning"),
]


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with Driver() as driver:
        yield driver


@pytest.fixture
def scene(tmp_path: Path, driver: Driver) -> Iterator[Scene]:
    with sandbox() as box:
        yield Scene(box=box, driver=driver, source=tmp_path / "photos", output=tmp_path / "enhanced")
    gc.collect()


@pytest.fixture
def plain_scene(driver: Driver) -> Iterator[Scene]:
    """One whose runs have no more rights than anybody's: permissions do not bind root."""
    with tempfile.TemporaryDirectory(prefix="phota-folder-") as name, sandbox() as box:
        scene = Scene(box=box, driver=driver, source=Path(name, "photos"), output=Path(name, "enhanced"))
        scene.output.mkdir()
        if os.getuid() == 0:
            scene.always = {"uid": NOBODY}
            for path in (Path(name), scene.output):
                os.chown(path, NOBODY, NOBODY)
        yield scene
    gc.collect()


# ---- full


@pytest.mark.timeout(180)
def test_a_disk_that_is_full_from_some_operation_on(scene: Scene) -> None:
    scene.fill(0, 1, 2)
    causes: set[str | None] = set()
    for number in range(1, 1000, STEP):
        shutil.rmtree(scene.output, ignore_errors=True)
        scene.box.ledger.reset()
        ended = scene.run(fill_at=number)
        if ended.raised is not None:
            assert ended.raised["raised"] == "OSError"
            assert scene.charges().total() == lost(ended) == 0
        causes.add("at the start" if ended.raised is not None else ended.whole()["stopped_by"])
        assert scene.settle(in_flight=scene.concurrency) == lost(ended)
        if None in causes:
            break
    assert causes == {"at the start", "disk", None}


def lost(ended: Ended) -> int:
    """Count what the journal could not take; all of it is handed over."""
    failures: list[list[Any]] = ended.report["failures"] if ended.report else []
    links = [urls for _, state, _, _, urls in failures if state == "unknown"]
    assert all(links)
    return len(links)


def test_a_disk_that_takes_the_journal_and_no_image(scene: Scene) -> None:
    scene.box.long_edge = 1024
    for number in range(6):
        noise(scene.source / f"{number}.jpg", number, edge=1024)
    report = scene.run(file_limit=800 * 1024).whole()
    assert (report["enhanced"], report["unknown"], report["stopped_by"]) == (0, 0, "disk")
    assert report["failed"] == scene.charges().total() == 6 - report["not_attempted"] < 6
    assert all("for nothing" in one[3] for one in report["failures"])
    assert scene.files() == JOURNAL
    assert scene.settle(in_flight=0) == 0
    assert scene.charges().total() == 6


@pytest.mark.parametrize("room", [0, 5_000, 100_000, 200_000])
def test_a_disk_without_room_for_the_journal_costs_nothing(scene: Scene, room: int) -> None:
    scene.fill(0, 1, 2)
    for _ in range(2):
        ended = scene.run(file_limit=room)
        assert ended.raised is not None
        assert ended.raised["raised"] == "OSError"
    assert not scene.box.ledger.requests
    assert scene.settle(in_flight=0) == 0


# ---- gone


def until_half_is_there(scene: Scene) -> Driver:
    """Begin a run over six photos, and wait until two images are there and two requests under way."""
    scene.fill(*range(6))
    scene.box.script(None, None, SLOW, SLOW)
    running = scene.start()
    for _ in range(2):
        running.until_event("enhanced")
    assert scene.box.ledger.wait(lambda ledger: ledger.in_flight == 2)
    return running


@pytest.mark.parametrize("replaced", [False, True])
def test_the_output_folder_is_removed_in_the_middle(scene: Scene, replaced: bool) -> None:  # noqa: FBT001
    running = until_half_is_there(scene)
    shutil.rmtree(scene.output)
    if replaced:
        scene.output.mkdir()
    report = running.until_ended().whole()
    assert (report["enhanced"], report["unknown"], report["not_attempted"]) == (2, 2, 2)
    assert report["stopped_by"] == "disk"
    assert all(one[4] for one in report["failures"])
    # Nothing is begun anew behind the back of whoever removed it.
    assert scene.output.exists() == replaced
    assert not scene.files()
    assert scene.charges().total() == 4
    assert scene.run().whole()["enhanced"] == 6
    assert scene.charges().total() == 10
    scene.check_end()


def test_the_output_folder_becomes_read_only_in_the_middle(plain_scene: Scene) -> None:
    scene = plain_scene
    running = until_half_is_there(scene)
    for folder in (scene.output, scene.output / "sub"):
        folder.chmod(0o555)
    report = running.until_ended().whole()
    assert (report["enhanced"], report["unknown"], report["failed"]) == (2, 0, 2)
    assert (report["not_attempted"], report["stopped_by"]) == (2, "disk")
    assert scene.charges().total() == 4
    # The journal, whose files are there, would take more: nothing is bought all the same.
    assert scene.run().raised is not None
    assert scene.charges().total() == 4
    for folder in (scene.output, scene.output / "sub"):
        folder.chmod(0o755)
    assert scene.settle(in_flight=0) == 0
    scene.check_still()


def test_a_read_only_output_folder_costs_nothing(plain_scene: Scene) -> None:
    scene = plain_scene
    scene.fill(0, 1)
    scene.output.chmod(0o555)
    ended = scene.run()
    assert ended.raised is not None
    assert ended.raised["raised"] in {"OSError", "PermissionError"}
    assert not scene.box.ledger.requests
    assert not scene.files()


# ---- sources that change


def test_photos_that_change_under_the_run(scene: Scene) -> None:
    scene.concurrency = 1
    scene.fill(*range(7))
    before = scene.photos()
    scene.box.script(SLOW)
    running = scene.start()
    under_way = Path(running.until_event("sent")["source"])
    assert scene.box.ledger.wait(lambda ledger: ledger.charged_images == 1 or ledger.in_flight == 1)
    others = [scene.source / name for name in before if scene.source / name != under_way]
    deleted, cut_short, emptied, replaced, grown, _ = others
    deleted.unlink()
    os.truncate(cut_short, 700)
    emptied.write_bytes(b"")
    draw(scene.source / "new", 70).replace(replaced)
    with grown.open("ab") as file:
        file.write(b"more")
    report = running.until_ended().whole()
    scene.quiet()
    assert {Path(one[0]) for one in report["failures"]} >= {deleted, cut_short, emptied}
    assert (report["enhanced"] + report["failed"], report["unknown"], report["stopped_by"]) == (7, 0, None)

    # Whole again, each as something else than before.
    for number, path in enumerate((deleted, cut_short, emptied), 80):
        draw(path, number)
    assert scene.run().whole()["failed"] == 0
    assert set(scene.charges()) == set(scene.photos().values())
    assert set(scene.charges().values()) == {1}
    scene.check_end()
    scene.check_still()


def test_a_photo_that_is_replaced_after_it_was_enhanced_keeps_both_images(scene: Scene) -> None:
    scene.fill(1, 2)
    scene.run().whole()
    old = (scene.output / "1.png").read_bytes()
    draw(scene.source / "1.jpg", 9)
    assert scene.run().whole()["enhanced"] == 1
    assert (scene.output / "1.png").read_bytes() == old
    assert scene.charges().total() == 3
    assert scene.run().whole()["skipped"] == 2


# ---- a journal that is no more


def cut(size: Callable[[int], int]) -> Callable[[Path], None]:
    def damage(journal: Path) -> None:
        with journal.open("rb+") as file:
            file.truncate(size(journal.stat().st_size))

    return damage


def garbage(start: int, length: int | None = None) -> Callable[[Path], None]:
    def damage(journal: Path) -> None:
        with journal.open("rb+") as file:
            file.seek(start)
            file.write(os.urandom(length or journal.stat().st_size - start))

    return damage


def replaced(journal: Path) -> None:
    journal.write_text("dear diary\n" * 1000)


DAMAGES = {
    "empty": cut(lambda _: 0),
    "one byte": cut(lambda _: 1),
    "one page": cut(lambda _: 4096),
    "half": cut(lambda size: size // 2),
    "all garbage": garbage(0),
    "garbage at its head": garbage(0, 100),
    "garbage after its head": garbage(100, 4000),
    "garbage behind": garbage(4096),
    "a text": replaced,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_journal_is_told_and_there_is_a_way_on(scene: Scene, damage: Callable[[Path], None]) -> None:
    scene.fill(0, 1, 2)
    scene.run().whole()
    images = scene.identities()
    journal = scene.output / NAME
    damage(journal)
    damaged = journal.read_bytes()
    scene.fill(3)
    for _ in range(2):
        ended = scene.run()
        assert ended.raised is not None, ended.report
        assert ended.raised["raised"] == "JournalError"
        assert all(words in ended.raised["reason"] for words in (str(journal), "untouched", "move it away"))
    assert scene.charges().total() == 3
    assert scene.identities() == images
    assert journal.read_bytes() == damaged

    journal.rename(scene.source.parent / "moved-away")
    report = scene.run().whole()
    assert (report["enhanced"], report["skipped"]) == (1, 3)
    assert scene.charges().total() == 4
    scene.check_end()
    assert scene.identities().items() >= images.items()


@pytest.mark.parametrize("damage", [Path.unlink, cut(lambda _: 0), garbage(0)], ids=["gone", "empty", "garbage"])
def test_a_killed_run_whose_log_is_gone_is_not_gone_on_with_unasked(
    scene: Scene, damage: Callable[[Path], None]
) -> None:
    stuck = Fault(stall=math.inf, charged=True)
    scene.fill(0, 1, 2, 3)
    scene.box.script(None, None, stuck, stuck)
    running = scene.start()
    assert scene.box.ledger.wait(lambda ledger: ledger.charged_images == 4)
    running.signal(signal.SIGKILL)
    assert running.until_ended().status == KILLED
    scene.quiet()
    log = scene.output / f"{NAME}-wal"
    kept = log.read_bytes()
    damage(log)
    ended = scene.run()
    assert ended.raised is not None, ended.report
    assert ended.raised["raised"] == "JournalError"
    assert all(words in ended.raised["reason"] for words in (str(log), "untouched", "Put the log back"))
    assert scene.charges().total() == 4

    log.write_bytes(kept)
    assert scene.run().whole()["unknown"] == 2
    assert scene.charges().total() == 4


def test_a_killed_run_whose_log_is_gone_is_gone_on_with_when_that_is_asked_for(scene: Scene) -> None:
    scene.fill(0, 1)
    scene.box.script(Fault(stall=math.inf, charged=True))
    scene.concurrency = 1
    running = scene.start()
    assert scene.box.ledger.wait(lambda ledger: ledger.charged_images == 1)
    running.signal(signal.SIGKILL)
    running.until_ended()
    scene.quiet()
    (scene.output / f"{NAME}-wal").unlink()
    assert scene.run(retry_unknown=True).whole()["enhanced"] == 2
    assert scene.charges().total() == 3


def test_a_journal_that_lost_what_is_not_needed_is_still_one(scene: Scene) -> None:
    scene.fill(0, 1, 2)
    scene.run().whole()
    cut(lambda size: size - 1)(scene.output / NAME)
    scene.fill(3)
    assert scene.settle(in_flight=0) == 0


# ---- where things lie


@pytest.mark.parametrize("name", [NAME, LOCK_NAME])
@pytest.mark.parametrize("there", [False, True])
def test_the_journal_is_not_written_through_a_link(scene: Scene, name: str, there: bool) -> None:  # noqa: FBT001
    scene.fill(0)
    scene.output.mkdir()
    elsewhere = scene.output.parent / "elsewhere"
    if there:
        elsewhere.write_bytes(b"")
    (scene.output / name).symlink_to(elsewhere)
    ended = scene.run()
    assert ended.raised is not None
    assert ended.raised["raised"] == "JournalError"
    assert "is a link" in ended.raised["reason"]
    assert elsewhere.exists() == there
    assert not there or not elsewhere.read_bytes()
    assert not scene.box.ledger.requests


ODD_NAMES = (
    "two\nlines.jpg",
    "\N{SUNRISE OVER MOUNTAINS}.jpg",
    "a..jpg",
    "n" * 251 + ".jpg",
    "\N{CJK UNIFIED IDEOGRAPH-6F22}" * 83 + ".jpg",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}.jpg",
    "cafe\N{COMBINING ACUTE ACCENT}.jpg",
    "case.jpg",
    "CASE.jpg",
    "case.png",
)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take some of them for the same")
def test_odd_names_outlive_a_crash(scene: Scene) -> None:
    for number, name in enumerate(ODD_NAMES):
        draw(scene.source / f"{name[:40]}.d" / name if number % 2 else scene.source / name, number)
        draw(scene.source / name, 100 + number)
    scene.box.script(*[None] * 12, *[Fault(stall=float("inf"), charged=True)] * 2)
    running = scene.start()
    for _ in range(12):
        running.until_event("enhanced")
    assert scene.box.ledger.wait(lambda ledger: ledger.charged_images == 14)
    running.signal(signal.SIGKILL)
    assert running.until_ended().status == KILLED
    assert scene.settle(in_flight=2) == 2
    scene.check_still()


def test_an_output_folder_inside_the_source_is_not_enhanced_again(scene: Scene) -> None:
    scene.output = scene.source / "enhanced"
    scene.fill(0, 1, 2, 3)
    scene.box.script(None, None, Fault(stall=float("inf"), charged=True))
    running = scene.start()
    for _ in range(3):
        running.until_event("enhanced")
    running.signal(signal.SIGKILL)
    assert running.until_ended().status == KILLED
    scene.quiet()
    assert scene.settle(in_flight=2) == 1
    scene.check_still()


def test_photos_behind_links_are_enhanced_and_folders_behind_links_are_not(scene: Scene) -> None:
    scene.fill(0, 1)
    elsewhere = scene.source.parent / "elsewhere"
    photo = draw(elsewhere / "photo.jpg", 50)
    (scene.source / "linked.jpg").symlink_to(photo)
    (scene.source / "linked").symlink_to(elsewhere)
    (scene.source / "round").symlink_to(scene.source)
    assert scene.settle(in_flight=0) == 0
    (scene.source / "dangling.jpg").symlink_to(elsewhere / "nothing")
    report = scene.run().whole()
    assert (report["skipped"], report["failed"], report["not_attempted"]) == (3, 1, 0)
    assert scene.charges().total() == 3
