"""Where the images of a folder run go: never outside, never over what is somebody's, the same from run to run."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from folder_runs import counts, known, make, once, one_by_one, picture, put, run, sha256, standing, states

from phota_async import FolderEvent
from phota_async.sandbox import Fault, Sandbox

# ---- names


async def test_two_that_would_share_a_name_keep_distinct_ones_from_run_to_run(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.png"), tmp_path / "out"
    await run(box, source, output)
    before = standing(output)
    make(source, "a.jpg", "a.webp")
    assert counts(await run(box, source, output)) == {"enhanced": 2, "skipped": 1}
    records = await known(output)
    assert records["a.png"].outputs == (output / "a.png",)
    assert {records[name].outputs[0].name for name in ("a.jpg", "a.webp")} == {"a-2.png", "a-3.png"}
    files = standing(output)
    assert files["a.png"] == before["a.png"]
    for _ in range(2):
        assert counts(await run(box, source, output)) == {"skipped": 3}
    for name in files:
        (output / name).unlink()
    assert counts(await run(box, source, output)) == {"enhanced": 3}
    assert standing(output) == files
    assert {name: record.outputs for name, record in (await known(output)).items()} == {
        name: record.outputs for name, record in records.items()
    }


async def test_folders_of_two_sources_that_hold_the_same_names(box: Sandbox, tmp_path: Path) -> None:
    one, other, output = tmp_path / "one", tmp_path / "other", tmp_path / "out"
    put(one / "sub" / "a.jpg", 1)
    put(other / "sub" / "a.jpg", 2)
    assert counts(await run(box, [one, other], output)) == {"enhanced": 2}
    assert list(standing(output)) == ["sub/a-2.png", "sub/a.png"]
    assert counts(await run(box, [other, one], output)) == {"skipped": 2}


@pytest.mark.parametrize("overwrite", [False, True])
async def test_numbers_of_many_images_meet_no_others_name(box: Sandbox, tmp_path: Path, *, overwrite: bool) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output, num_output_images=2)
    before = standing(output)
    make(source, "a-1.jpg", "a-2.jpg")
    (source / "a.jpg").unlink()
    assert counts(await run(box, source, output, overwrite=overwrite)) == {"enhanced": 2}
    files = standing(output)
    assert list(files) == ["a-1-2.png", "a-1.png", "a-2-2.png", "a-2.png"]
    assert {name: files[name] for name in before} == before


ODD = {
    "newline": "two\nlines.jpg",
    "emoji": "🌄🏽.jpg",
    "dots": "...jpg",
    "dots in front": "..a.jpg",
    "backslash": "..\\a.jpg",
    "space": " a .jpg",
    "percent": "%2e%2e%2fa%00.jpg",
    "quote": "a'b\"c;--.jpg",
    "braces": "{reason}{0}.jpg",
    "escape": "a\x1b[31mb.jpg",
    "longest": "n" * 251 + ".jpg",
    "longest of many bytes": "漢" * 83 + ".jpg",
    "a name of ours": "a.phota-run-0.partial.jpg",
}


@pytest.mark.skipif(sys.platform == "win32", reason="such names are no names there")
@pytest.mark.parametrize("kind", ODD)
async def test_odd_names(box: Sandbox, tmp_path: Path, kind: str) -> None:
    name = ODD[kind]
    output = tmp_path / "out"
    source = [put(tmp_path / "photos" / name, 1), put(tmp_path / "photos" / f"f{name[:60]}" / name, 2)]
    events = list[FolderEvent]()
    assert counts(await run(box, source, output, on_event=events.append)) == {"enhanced": 2}
    assert {event.source for event in events if event.kind == "enhanced"} == set(source)
    files = standing(output)
    assert len(files) == 2
    for path in files:
        assert path.endswith(".png")
        assert len(os.fsencode(Path(path).name)) <= 255
    assert sorted(os.listdir(tmp_path)) == ["out", "photos"]  # noqa: PTH208
    assert counts(await run(box, source, output)) == {"skipped": 2}
    source[0].write_bytes(b"")
    (one,) = (await run(box, source, output)).failures
    assert one.source == source[0]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
async def test_a_name_that_is_no_text(box: Sandbox, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    source, output = make(tmp_path / "photos", name), tmp_path / "out"
    put(source / os.fsdecode(b"f\xff") / name, 2)
    box.script(Fault(status=400, detail="refused"))
    assert counts(await one_by_one(box, source, output)) == {"enhanced": 1, "failed": 1}
    assert counts(await run(box, source, output, retry_failed=True)) == {"enhanced": 1, "skipped": 1}
    assert [os.fsencode(path) for path in standing(output)] == [b"caf\xe9.png", b"f\xff/caf\xe9.png"]
    (source / name).rename(source / os.fsdecode(b"\xfe.jpg"))
    events = list[FolderEvent]()
    assert counts(await run(box, source, output, on_event=events.append)) == {"skipped": 2}
    (source / os.fsdecode(b"\xfe.jpg")).write_bytes(b"")
    assert counts(await run(box, source, output)) == {"failed": 1, "skipped": 1}
    record = (await known(output))[os.fsdecode(b"\xfe.jpg")]
    assert record.source == source / os.fsdecode(b"\xfe.jpg")
    assert record.reason is not None
    assert "is empty" in record.reason.encode().decode()


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take them for the same")
async def test_names_that_another_file_system_takes_for_the_same(box: Sandbox, tmp_path: Path) -> None:
    accents = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    source, output = make(tmp_path / "photos", "a.jpg", "A.jpg", *(f"{one}.jpg" for one in accents)), tmp_path / "out"
    assert counts(await run(box, source, output)) == {"enhanced": 4}
    names = [unicodedata.normalize("NFC", name).casefold() for name in standing(output)]
    assert len(set(names)) == 4
    assert counts(await run(box, source, output)) == {"skipped": 4}


# ---- what stands there


async def test_a_file_that_stands_there_is_left_alone_and_nothing_is_bought(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    output.mkdir()
    (output / "a.png").write_bytes(b"somebody's")
    events = list[FolderEvent]()
    for expected in ({"enhanced": 1, "skipped": 1}, {"skipped": 2}):
        assert counts(await run(box, source, output, on_event=events.append)) == expected
    assert (output / "a.png").read_bytes() == b"somebody's"
    assert box.ledger.charges == {sha256("b.jpg"): 1}
    told = [event for event in events if event.kind == "skipped" and event.reason]
    assert len(told) == 2
    assert {event.reason for event in told} == {
        "a.png stands where its image would go, and this folder's journal does not know it (overwrite replaces it)"
    }
    assert {event.outputs for event in told} == {(output / "a.png",)}
    (output / "a.png").unlink()
    assert counts(await run(box, source, output)) == {"enhanced": 1, "skipped": 1}


async def test_one_of_many_names_that_is_taken_keeps_the_photo_from_being_bought(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    output.mkdir()
    (output / "a-3.png").write_bytes(b"somebody's")
    assert counts(await run(box, source, output, num_output_images=4)) == {"skipped": 1}
    assert box.ledger.requests == []


async def test_a_copy_stops_at_a_file_that_stands_there(box: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "photos", tmp_path / "out"
    put(source / "a.jpg", 1)
    await run(box, source, output)
    put(source / "b.jpg", 1)
    (output / "b.png").write_bytes(b"somebody's")
    assert counts(await run(box, source, output)) == {"skipped": 2}
    assert (output / "b.png").read_bytes() == b"somebody's"


async def test_overwrite_replaces_what_stands_there(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    output.mkdir()
    (output / "a.png").write_bytes(b"somebody's")
    assert counts(await run(box, source, output, overwrite=True)) == {"enhanced": 1}
    assert standing(output)["a.png"].startswith(b"\x89PNG")
    assert len(standing(output)) == 1


async def test_a_folder_that_stands_there_is_never_replaced(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    put(output / "a.png" / "kept.jpg")
    for overwrite in (False, True):
        assert counts(await run(box, source, output, overwrite=overwrite)) == {"skipped": 1}
    assert list(standing(output)) == ["a.png/kept.jpg"]
    assert box.ledger.requests == []


async def test_a_file_that_turns_up_meanwhile_is_left_alone(
    box: Sandbox, tmp_path: Path, blockbuster: BlockBuster
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    hook = once(blockbuster, "sent", lambda: (output / "a.png").write_bytes(b"somebody's"))
    report = await run(box, source, output, on_event=hook)
    assert counts(report) == {"enhanced": 1}
    assert list(report.outputs) == [output / "a-2.png"]
    assert (output / "a.png").read_bytes() == b"somebody's"
    assert counts(await run(box, source, output)) == {"skipped": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
async def test_a_link_that_stands_there_is_a_file_that_stands_there(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    elsewhere = put(tmp_path / "elsewhere" / "kept.png")
    output.mkdir()
    (output / "a.png").symlink_to(elsewhere)
    (output / "b.png").symlink_to(tmp_path / "nothing")
    assert counts(await run(box, source, output)) == {"skipped": 2}
    assert counts(await run(box, source, output, overwrite=True)) == {"enhanced": 2}
    assert not (output / "a.png").is_symlink()
    assert not (output / "b.png").is_symlink()
    assert elsewhere.read_bytes() == picture("kept.png")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
async def test_nothing_is_written_through_a_link_to_a_folder(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "sub/a.jpg", "sub/deep/b.jpg", "c.jpg"), tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    output.mkdir()
    (output / "sub").symlink_to(tmp_path / "elsewhere")
    for overwrite in (False, True):
        report = await run(box, source, output, overwrite=overwrite)
        assert (report.enhanced, report.failed, report.stopped_by) == (1, 2, None)
        assert {failure.reason.count("nothing is written through one") for failure in report.failures} == {1}
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert set(box.ledger.charges) == {sha256("c.jpg")}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
async def test_a_folder_that_becomes_a_link_meanwhile(box: Sandbox, tmp_path: Path, blockbuster: BlockBuster) -> None:
    source, output = make(tmp_path / "photos", "sub/a.jpg"), tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()

    def replace() -> None:
        (output / "sub").rmdir()
        (output / "sub").symlink_to(tmp_path / "elsewhere")

    report = await run(box, source, output, on_event=once(blockbuster, "sent", replace))
    assert counts(report) == {"failed": 1}
    assert report.failures[0].reason.startswith("paid for, but it could not be written")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (output / "sub").unlink()
    report = await run(box, source, output)
    assert (counts(report), report.spent_usd) == ({"enhanced": 1}, 0.0)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
async def test_an_output_folder_may_be_reached_through_a_link(box: Sandbox, tmp_path: Path) -> None:
    source = make(tmp_path / "photos", "a.jpg")
    (tmp_path / "real").mkdir()
    (source / "link").symlink_to(tmp_path / "real")
    assert counts(await run(box, source, source / "link")) == {"enhanced": 1}
    assert counts(await run(box, source, tmp_path / "real")) == {"skipped": 1}


# ---- overwriting


async def test_overwriting_enhances_anew_under_the_same_names(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "sub/b.jpg"), tmp_path / "out"
    await run(box, source, output)
    before = standing(output)
    box.long_edge = 32
    report = await run(box, source, output, overwrite=True)
    assert (counts(report), report.spent_usd) == ({"enhanced": 2}, 0.24)
    after = standing(output)
    assert list(after) == list(before)
    assert all(after[name] != before[name] for name in before)
    assert counts(await run(box, source, output)) == {"skipped": 2}
    assert set(box.ledger.charges.values()) == {2}


async def test_overwriting_buys_what_is_there_twice_once(box: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "photos", tmp_path / "out"
    for name in ("a.jpg", "b.jpg"):
        put(source / name, "the same")
    await run(box, source, output)
    before = standing(output)
    box.long_edge = 32
    assert counts(await run(box, source, output, overwrite=True)) == {"enhanced": 1, "skipped": 1}
    assert box.ledger.charged_images == 2
    after = standing(output)
    assert list(after) == list(before) == ["a.png", "b.png"]
    assert len(set(after.values())) == 1
    assert after["a.png"] != before["a.png"]


async def test_overwriting_a_photo_that_has_changed_replaces_its_image(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output)
    before = standing(output)
    put(source / "a.jpg", "edited")
    assert counts(await run(box, source, output, overwrite=True)) == {"enhanced": 1}
    assert list(standing(output)) == ["a.png"]
    assert standing(output) != before


async def test_an_overwriting_run_that_was_broken_off_is_gone_on_with(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", *(f"{number}.jpg" for number in range(5))), tmp_path / "out"
    await run(box, source, output)
    box.ledger.reset()
    report = await one_by_one(box, source, output, overwrite=True, max_cost_usd=0.24)
    assert counts(report) == {"enhanced": 2, "not_attempted": 3}
    box.script(None, Fault(status=402))
    report = await one_by_one(box, source, output, overwrite=True)
    assert counts(report) == {"enhanced": 1, "failed": 1, "skipped": 2, "not_attempted": 1}
    assert sorted((await states(output)).values()) == ["enhanced"] * 5
    assert counts(await run(box, source, output, overwrite=True)) == {"enhanced": 2, "skipped": 3}
    assert set(box.ledger.charges.values()) == {1}
    assert counts(await run(box, source, output, overwrite=True)) == {"enhanced": 5}
    assert set(box.ledger.charges.values()) == {2}


async def test_a_refusal_while_overwriting_keeps_what_was_done(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output)
    before = standing(output)
    box.script(Fault(status=400))
    assert counts(await run(box, source, output, overwrite=True)) == {"failed": 1}
    assert standing(output) == before
    assert await states(output) == {"a.jpg": "enhanced"}
    assert counts(await run(box, source, output)) == {"skipped": 1}


# ---- photos that change meanwhile


async def test_a_photo_that_changes_between_hashing_and_sending_is_not_sent(
    box: Sandbox, tmp_path: Path, blockbuster: BlockBuster
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    hook = once(blockbuster, "sent", lambda: put(source / "a.jpg", "edited"))
    report = await run(box, source, output, on_event=hook)
    assert counts(report) == {"failed": 1}
    assert "changed while it was being sent" in report.failures[0].reason
    assert box.ledger.charged_images == 0
    assert await states(output) == {"a.jpg": "failed"}
    assert counts(await run(box, source, output)) == {"enhanced": 1}
    assert box.ledger.charges == {sha256("edited"): 1}


async def test_a_photo_replaced_by_one_of_the_same_size_and_time_is_not_sent(
    box: Sandbox, tmp_path: Path, blockbuster: BlockBuster
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    there = source / "a.jpg"
    size = there.stat().st_size
    other = next(seed for seed in range(1000) if len(picture(seed)) == size)

    def replace() -> None:
        status = there.stat()
        put(tmp_path / "other", other)
        os.utime(tmp_path / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
        (tmp_path / "other").replace(there)

    report = await run(box, source, output, on_event=once(blockbuster, "sent", replace))
    assert counts(report) == {"failed": 1}
    assert counts(await run(box, source, output)) == {"enhanced": 1}
    assert box.ledger.charges == {sha256(other): 1}


async def test_a_photo_that_changes_after_the_walk_is_what_is_bought(
    box: Sandbox, tmp_path: Path, blockbuster: BlockBuster
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    await run(box, source, output)
    make(source, "c.jpg")
    put(source / "a.jpg", "x")
    hook = once(blockbuster, "walked", lambda: put(source / "a.jpg", "edited"))
    assert counts(await run(box, source, output, on_event=hook)) == {"enhanced": 2, "skipped": 1}
    assert box.ledger.charges == {sha256(seed): 1 for seed in ("a.jpg", "b.jpg", "edited", "c.jpg")}
    for _ in range(2):
        assert counts(await run(box, source, output)) == {"skipped": 3}


async def test_a_photo_that_vanishes_after_the_walk_fails(
    box: Sandbox, tmp_path: Path, blockbuster: BlockBuster
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    hook = once(blockbuster, "walked", (source / "a.jpg").unlink)
    assert counts(await run(box, source, output, on_event=hook)) == {"enhanced": 1, "failed": 1}
    assert counts(await run(box, source, output)) == {"skipped": 1}


async def test_what_a_dead_run_left_half_written_is_cleared_away(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "sub/a.jpg"), tmp_path / "out"
    box.script_downloads(Fault(status=400))
    await run(box, source, output)
    for folder in (output, output / "sub"):
        (folder / ".phota-run-0123456789abcdef.partial").write_bytes(b"half")
    (output / ".phota-0123456789abcdef.partial").write_bytes(b"another program's")
    assert counts(await run(box, source, output)) == {"enhanced": 1}
    assert list(standing(output)) == [".phota-0123456789abcdef.partial", "sub/a.png"]
