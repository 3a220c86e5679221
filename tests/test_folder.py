"""A folder run, from outside: what is bought, what is not bought again, and where the images go."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from blockbuster import BlockBuster
from folder_runs import (
    KEY,
    client,
    counts,
    journalled,
    known,
    make,
    nested,
    once,
    one_by_one,
    picture,
    put,
    run,
    sha256,
    standing,
    states,
    status,
    with_the_times_of,
)

from phota_async import FolderEvent, FolderProgress, ImageError, Price
from phota_async.folder import FolderJob, foresee
from phota_async.journal import NAME
from phota_async.models import EnhanceOptions
from phota_async.sandbox import Fault, Sandbox

# ---- the first run


async def test_a_folder_is_enhanced_into_another(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "sub/b.PNG", "sub/deep/c.jpeg"), tmp_path / "new" / "out"
    report = await run(box, source, output, prompt="soften the light")
    assert counts(report) == {"enhanced": 3}
    assert report.ok
    assert (report.spent_usd, report.failures, report.stopped_by, report.message) == (0.36, (), None, None)
    assert report.elapsed > 0
    assert sorted(report.outputs) == [output / "a.png", output / "sub/b.png", output / "sub/deep/c.png"]
    files = standing(output)
    assert list(files) == ["a.png", "sub/b.png", "sub/deep/c.png"]
    assert all(data.startswith(b"\x89PNG") for data in files.values())
    assert sorted(path.name for path in output.iterdir()) == [NAME, f"{NAME}-lock", "a.png", "sub"]
    assert {request.prompt for request in box.ledger.requests} == {"soften the light"}
    assert {request.response_mode for request in box.ledger.requests} == {"urls"}
    assert box.ledger.keys_on_downloads == []


async def test_what_the_journal_knows_afterwards(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "sub/b.jpg"), tmp_path / "out"
    await run(box, source, output)
    records = await known(output)
    ids = {request.sha256: request.request_id for request in box.ledger.requests}
    for name in ("a.jpg", "sub/b.jpg"):
        record = records[name]
        assert (record.source, record.state, record.cost_usd) == (source / name, "enhanced", 0.12)
        assert record.outputs == (output / name.replace(".jpg", ".png"),)
        assert record.request_id == ids[sha256(name)]
        assert record.reason is None
        assert record.at is not None
    folder = await status(output)
    assert (folder.enhanced, folder.spent_usd, folder.running, folder.message) == (2, 0.24, False, None)
    assert folder.begun is not None
    assert folder.ended is not None
    assert folder.begun <= folder.ended


async def test_the_key_is_not_in_the_journal(box: Sandbox, tmp_path: Path) -> None:
    await run(box, make(tmp_path / "photos", "a.jpg"), tmp_path / "out", prompt="a prompt of note")
    content = await journalled(tmp_path / "out")
    assert b"a prompt of note" in content
    assert KEY.encode() not in content


async def test_a_folder_without_photos_is_done_at_once(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").write_bytes(b"no photo")
    report = await run(box, tmp_path / "photos", tmp_path / "out")
    assert counts(report) == {}
    assert report.ok
    assert box.ledger.requests == []


async def test_a_source_may_be_one_photo_or_several_things(box: Sandbox, tmp_path: Path) -> None:
    folder, single = make(tmp_path / "one", "a.jpg", "sub/b.jpg"), put(tmp_path / "two" / "c")
    assert counts(await run(box, single, tmp_path / "out")) == {"enhanced": 1}
    report = await run(box, (path for path in [folder, str(single), tmp_path / "one" / "a.jpg"]), tmp_path / "out")
    assert counts(report) == {"enhanced": 2, "skipped": 1}
    assert list(standing(tmp_path / "out")) == ["a.png", "c.png", "sub/b.png"]


async def test_relative_paths_are_those_of_now(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "photos", "a.jpg")
    monkeypatch.chdir(tmp_path)
    report = await run(box, "photos", "out")
    assert list(report.outputs) == [tmp_path / "out" / "a.png"]
    assert counts(await run(box, "./photos", tmp_path / "out")) == {"skipped": 1}


# ---- options


async def test_images_of_one_photo_are_numbered(box: Sandbox, tmp_path: Path) -> None:
    report = await run(box, make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out", num_output_images=4)
    assert counts(report) == {"enhanced": 2}
    assert report.spent_usd == 0.96
    assert list(standing(tmp_path / "out")) == [f"{stem}-{number}.png" for stem in "ab" for number in range(1, 5)]


async def test_another_format_has_its_extension(box: Sandbox, tmp_path: Path) -> None:
    await run(box, make(tmp_path / "photos", "a.png"), tmp_path / "out", output_format="jpg")
    (data,) = standing(tmp_path / "out").values()
    assert data.startswith(b"\xff\xd8")
    assert list(standing(tmp_path / "out")) == ["a.jpg"]


async def test_known_subjects_cost_more(box: Sandbox, tmp_path: Path) -> None:
    report = await run(box, make(tmp_path / "photos", "a.jpg"), tmp_path / "out", profile_ids=["me"])
    assert (report.spent_usd, box.ledger.spent_usd) == (0.15, 0.15)
    report = await run(
        box, make(tmp_path / "photos", "b.jpg"), tmp_path / "out", profile_ids=["me"], price=Price(1, with_subject=2.5)
    )
    assert report.spent_usd == 2.5
    assert (await status(tmp_path / "out")).spent_usd == 2.65


async def test_patterns_tell_what_counts(box: Sandbox, tmp_path: Path) -> None:
    source = make(tmp_path / "photos", "a.jpg", "b.png", "old/c.jpg", "new/d.JPG", "new/skip.jpg")
    report = await run(box, source, tmp_path / "out", include=["*.jpg"], exclude=["old/", "skip*"])
    assert counts(report) == {"enhanced": 2}
    assert list(standing(tmp_path / "out")) == ["a.png", "new/d.png"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"include": "*.jpg"}, "lists of patterns"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"max_cost_usd": "1"}, "max_cost_usd"),
        ({"max_cost_usd": float("nan")}, "max_cost_usd"),
        ({"max_cost_usd": True}, "max_cost_usd"),
        ({"price": 0.12}, "price"),
        ({"num_output_images": 5}, "num_output_images"),
        ({"timeout": 0}, "timeout"),
        ({"source": b"photos"}, "source"),
        ({"source": 5}, "source"),
    ],
)
async def test_a_wrong_option_is_named_before_anything_is_touched(
    box: Sandbox, tmp_path: Path, options: dict[str, object], field: str
) -> None:
    source = make(tmp_path / "photos", "a.jpg")
    with pytest.raises(ValueError, match=field):
        await run(box, **{"source": source, "output": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("amount", [-0.01, float("inf"), float("nan"), "0.12", True, None])
def test_a_price_is_an_amount(amount: object) -> None:
    with pytest.raises(ValueError, match="image"):
        Price(amount)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="with_subject"):
        Price(0.1, amount)  # type: ignore[arg-type]


# ---- the next run


async def test_a_second_run_sends_and_fetches_nothing(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "sub/b.jpg"), tmp_path / "out"
    await run(box, source, output)
    before = standing(output)
    box.ledger.reset()
    report = await run(box, source, output)
    assert counts(report) == {"skipped": 2}
    assert report.ok
    assert (report.spent_usd, list(report.outputs)) == (0.0, [])
    assert (box.ledger.requests, box.ledger.downloads) == ([], [])
    assert standing(output) == before
    assert (await status(output)).spent_usd == 0.24


async def test_a_new_photo_is_all_that_is_bought(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "c.jpg"), tmp_path / "out"
    await run(box, source, output)
    make(source, "b.jpg")
    report = await run(box, source, output)
    assert counts(report) == {"enhanced": 1, "skipped": 2}
    assert list(report.outputs) == [output / "b.png"]
    assert box.ledger.charged_images == 3


async def test_a_renamed_photo_is_not_bought_again(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output)
    (source / "a.jpg").rename(source / "b.jpg")
    events = list[FolderEvent]()
    for _ in range(2):
        report = await run(box, source, output, on_event=events.append)
        assert counts(report) == {"skipped": 1}
    assert box.ledger.charged_images == 1
    assert list(standing(output)) == ["a.png"]
    (first, _) = [event for event in events if event.kind == "skipped"]
    assert first.outputs == (output / "a.png",)
    assert first.reason == f"the same photo was bought as {source / 'a.jpg'}"
    assert (await known(output))["b.jpg"].outputs == (output / "a.png",)


async def test_photos_with_the_same_bytes_are_bought_once_and_copied(box: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "photos", tmp_path / "out"
    for name in ("a.jpg", "b.jpg", "sub/c.jpg", "sub/a.png"):
        put(source / name, "the same")
    report = await run(box, source, output)
    assert counts(report) == {"enhanced": 1, "skipped": 3}
    assert box.ledger.charges == {sha256("the same"): 1}
    files = standing(output)
    assert list(files) == ["a.png", "b.png", "sub/a.png", "sub/c.png"]
    assert len(set(files.values())) == 1
    assert counts(await run(box, source, output)) == {"skipped": 4}
    assert standing(output) == files
    assert {record.outputs for record in (await known(output)).values()} == {(output / name,) for name in files}


async def test_a_copy_of_many_images_is_of_all_of_them(box: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "photos", tmp_path / "out"
    put(source / "a.jpg", "the same")
    await run(box, source, output, num_output_images=2)
    put(source / "b.jpg", "the same")
    await run(box, source, output, num_output_images=2)
    files = standing(output)
    assert list(files) == ["a-1.png", "a-2.png", "b-1.png", "b-2.png"]
    assert (files["a-1.png"], files["a-2.png"]) == (files["b-1.png"], files["b-2.png"])
    assert box.ledger.charged_images == 2


async def test_another_option_is_another_purchase(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output)
    (before,) = standing(output).values()
    assert counts(await run(box, source, output, prompt="warmer")) == {"enhanced": 1}
    assert list(standing(output)) == ["a-2.png", "a.png"]
    assert standing(output)["a.png"] == before
    for options in ({}, {"prompt": "warmer"}):
        assert counts(await run(box, source, output, **options)) == {"skipped": 1}
    assert box.ledger.charged_images == 2


async def test_other_bytes_are_bought_under_another_name(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output)
    (before,) = standing(output).values()
    put(source / "a.jpg", "edited")
    assert counts(await run(box, source, output)) == {"enhanced": 1}
    assert list(standing(output)) == ["a-2.png", "a.png"]
    assert standing(output)["a.png"] == before
    assert counts(await run(box, source, output)) == {"skipped": 1}
    put(source / "a.jpg", "a.jpg")
    assert counts(await run(box, source, output)) == {"skipped": 1}
    assert box.ledger.charged_images == 2


async def test_a_photo_that_was_only_touched_is_not_bought_again(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output)
    os.utime(source / "a.jpg", ns=(1, 1))
    assert counts(await run(box, source, output)) == {"skipped": 1}
    assert box.ledger.charged_images == 1


async def test_size_and_time_are_believed_unless_told_otherwise(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    size = (source / "a.jpg").stat().st_size
    other = next(data for seed in range(1000) if len(data := picture(seed)) == size)
    await run(box, source, output)
    with_the_times_of(source / "a.jpg", other)
    assert counts(await run(box, source, output)) == {"skipped": 1}
    assert box.ledger.charged_images == 1
    assert counts(await run(box, source, output, checksum=True)) == {"enhanced": 1}
    assert counts(await run(box, source, output, checksum=True)) == {"skipped": 1}
    assert box.ledger.charged_images == 2


async def test_every_photo_is_read_again_when_told_to(box: Sandbox, tmp_path: Path, blockbuster: BlockBuster) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg"), tmp_path / "out"
    await run(box, source, output)
    make(source, "d.jpg")
    with (source / "big.jpg").open("wb") as file:
        file.truncate(2**26)
    hook = once(blockbuster, "walked", (source / "b.jpg").unlink)
    report = await run(box, source, output, checksum=True, on_event=hook)
    assert counts(report) == {"enhanced": 1, "skipped": 2, "failed": 2}
    assert {failure.source.name for failure in report.failures} == {"b.jpg", "big.jpg"}
    assert box.ledger.charged_images == 4


# ---- what a run would do


def foreseen(source: Path, output: Path, **options: Any) -> dict[str, str]:
    job = FolderJob.of(
        sources=source, output=output, options=EnhanceOptions(response_mode="urls"), stand_in=True, **options
    )
    return {path.relative_to(source).as_posix(): action.name for path, action in foresee(job)}


async def test_what_a_run_would_do_is_foreseen_and_nothing_is_touched(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "sub/b.jpg", "out/c.jpg"), tmp_path / "photos" / "out"
    make(source / "other", NAME, "d.jpg")
    everything = {"a.jpg": "SEND", "out/c.jpg": "SEND", "sub/b.jpg": "SEND"}
    assert await to_thread.run_sync(foreseen, source, tmp_path / "not there") == everything
    assert not (tmp_path / "not there").exists()
    del everything["out/c.jpg"]
    assert await to_thread.run_sync(foreseen, source, output) == everything
    assert [path.name for path in output.iterdir()] == ["c.jpg"]
    box.script(None, Fault(status=400))
    await one_by_one(box, source, output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    done, failed = ("a.jpg", "sub/b.jpg") if (output / "a.png").exists() else ("sub/b.jpg", "a.jpg")
    assert await to_thread.run_sync(foreseen, source, output) == {done: "SKIP", failed: "LEAVE_FAILED"}
    cases: tuple[tuple[dict[str, Any], dict[str, str]], ...] = (
        ({"retry_failed": True}, {done: "SKIP", failed: "SEND"}),
        ({"overwrite": True}, {done: "SEND", failed: "LEAVE_FAILED"}),
        ({"checksum": True}, {done: "SEND", failed: "SEND"}),
        ({"exclude": ["a*"]}, {"sub/b.jpg": "SKIP" if done == "sub/b.jpg" else "LEAVE_FAILED"}),
    )
    for options, expected in cases:
        assert await to_thread.run_sync(partial(foreseen, source, output, **options)) == expected
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    with pytest.raises(ImageError, match="is the source itself"):
        await to_thread.run_sync(foreseen, source, source)
    with pytest.raises(ImageError, match="cannot read"):
        await to_thread.run_sync(foreseen, source / "missing", output)


async def test_what_is_gone_from_the_source_is_not_counted(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    await run(box, source, output)
    (source / "a.jpg").unlink()
    assert counts(await run(box, source, output)) == {"skipped": 1}
    assert await states(output) == {"b.jpg": "enhanced"}
    assert (await status(output)).spent_usd == 0.24


# ---- events


async def test_events_tell_the_run_and_its_numbers(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    (source / "c.jpg").write_bytes(b"no photo")
    events = list[FolderEvent]()
    await one_by_one(box, source, output, on_event=events.append)
    kinds = [(event.kind, event.source and event.source.name) for event in events]
    assert kinds[0] == ("walked", None)
    assert kinds[-1] == ("ended", None)
    for name in ("a.jpg", "b.jpg"):
        assert kinds.index(("sent", name)) < kinds.index(("enhanced", name))
    assert len(kinds) == 7
    failed = next(event for event in events if event.kind == "failed")
    assert isinstance(failed.error, ImageError)
    assert failed.reason == str(failed.error)
    assert events[0].progress == FolderProgress(total=3, width=1, elapsed=events[0].progress.elapsed)
    for event in events:
        if event.kind == "sent":
            assert (event.progress.in_flight, event.cost_usd) == (1, 0.0)
        if event.kind == "enhanced":
            assert event.source is not None
            assert event.outputs == (output / event.source.with_suffix(".png").name,)
            assert event.cost_usd == 0.12
            assert event.request_id is not None
    last = events[-1].progress
    assert (last.settled, last.enhanced, last.failed, last.in_flight) == (3, 2, 1, 0)
    assert last.spent_usd == 0.24
    assert [event.progress.elapsed for event in events] == sorted(event.progress.elapsed for event in events)


async def test_a_hook_that_raises_costs_nothing(box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: FolderEvent) -> None:
        raise ZeroDivisionError(event.kind)

    report = await run(box, make(tmp_path / "photos", "a.jpg"), tmp_path / "out", on_event=broken)
    assert counts(report) == {"enhanced": 1}
    assert set(caplog.messages) == {"on_event raised"}


# ---- what a source holds beside photos


async def test_a_photo_that_is_none_fails_and_is_not_sent(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "good.jpg"), tmp_path / "out"
    (source / "empty.jpg").write_bytes(b"")
    (source / "text.heic").write_bytes(b"only the extension of a photo")
    for _ in range(2):
        report = await run(box, source, output)
        assert report.failed == 2
        assert not report.ok
        by_name = {failure.source.name: failure for failure in report.failures}
        assert {failure.kind for failure in report.failures} == {"ImageError"}
        assert {failure.state for failure in report.failures} == {"failed"}
        assert "is empty" in by_name["empty.jpg"].reason
        assert isinstance(by_name["text.heic"].error, ImageError)
        assert "_traceback" not in repr(by_name["text.heic"])
    assert len(box.ledger.requests) == 1
    assert await states(output) == {"good.jpg": "enhanced", "empty.jpg": "failed", "text.heic": "failed"}
    assert (await status(output)).failed == 2
    put(source / "empty.jpg")
    assert counts(await run(box, source, output)) == {"enhanced": 1, "skipped": 1, "failed": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
async def test_links_in_the_source(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    elsewhere = make(tmp_path / "elsewhere", "b.jpg", "c.jpg")
    (source / "linked.jpg").symlink_to(elsewhere / "b.jpg")
    (source / "folder").symlink_to(elsewhere)
    (source / "broken.jpg").symlink_to(elsewhere / "nothing.jpg")
    (source / "loop.jpg").symlink_to(source / "loop.jpg")
    report = await run(box, source, output)
    assert counts(report) == {"enhanced": 2, "failed": 2}
    assert list(standing(output)) == ["a.png", "linked.png"]
    assert {failure.source.name for failure in report.failures} == {"broken.jpg", "loop.jpg"}


async def test_a_folder_that_is_too_deep_is_one_failure(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "sub/b.jpg"), tmp_path / "out"
    with nested(source, "d" * 250, 20):
        report = await run(box, source, output)
    assert counts(report) == {"enhanced": 2, "failed": 1}
    assert "File name too long" in report.failures[0].reason


async def test_hidden_files_and_folders_are_left_out(box: Sandbox, tmp_path: Path) -> None:
    source = make(tmp_path / "photos", "a.jpg", ".hidden.jpg", ".trash/b.jpg")
    report = await run(box, source, tmp_path / "out")
    assert counts(report) == {"enhanced": 1}


async def test_an_output_below_its_source_is_not_enhanced_again(box: Sandbox, tmp_path: Path) -> None:
    source = make(tmp_path / "photos", "a.jpg", "sub/b.jpg")
    output = source / "sub" / "enhanced"
    for expected in ({"enhanced": 2}, {"skipped": 2}):
        assert counts(await run(box, source, output)) == expected
    assert list(standing(output)) == ["a.png", "sub/b.png"]


async def test_what_another_run_made_is_passed_over(box: Sandbox, tmp_path: Path) -> None:
    source = make(tmp_path / "photos", "a.jpg")
    await run(box, source, source / "warm", prompt="warm")
    report = await run(box, source, source / "cold", prompt="cold")
    assert counts(report) == {"enhanced": 1}
    assert list(standing(source / "cold")) == ["a.png"]


@pytest.mark.parametrize("as_link", [False, True])
async def test_the_source_itself_is_no_place_for_the_images(box: Sandbox, tmp_path: Path, *, as_link: bool) -> None:
    source = make(tmp_path / "photos", "a.jpg")
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(ImageError, match="is the source itself"):
        await run(box, source, tmp_path / "link" if as_link else source)
    assert box.ledger.requests == []


@pytest.mark.parametrize("name", ["missing", "photos/a.jpg/sub", "nul\0", "n" * 300])
async def test_a_source_that_is_not_there_is_an_error(box: Sandbox, tmp_path: Path, name: str) -> None:
    make(tmp_path / "photos", "a.jpg")
    with pytest.raises(ImageError, match="cannot read"):
        await run(box, tmp_path / name, tmp_path / "out")
    assert box.ledger.requests == []
    stands = await status(tmp_path / "out")
    assert (stands.ended is not None, "could not begin: cannot read" in (stands.message or "")) == (True, True)
    report = await run(box, [tmp_path / name, tmp_path / "photos"], tmp_path / "out")
    assert counts(report) == {"enhanced": 1, "failed": 1}
    assert report.failures[0].kind == "ImageError"


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("source must be a path", {"source": 5}),
        ("source must be a path", {"source": b"photos"}),
        ("one of them is 1", {"source": ["a.jpg", 1]}),
        ("output must be a path", {"output": 5}),
        ("overwrite must be True or False", {"overwrite": "yes"}),
        ("max_cost_usd must be", {"max_cost_usd": -1}),
        ("price must be", {"price": 0.12}),
        ("lists of patterns", {"include": "*.jpg"}),
        ("lists of patterns", {"exclude": [1]}),
        ("lists of patterns", {"include": None}),
        ("source must be a path", {"source": ""}),
        ("output must be a path", {"output": ""}),
        ("stop must be an asyncio.Event", {"stop": True}),
        ("on_event must be", {"on_event": 3}),
    ],
)
async def test_a_wrong_value_is_named(box: Sandbox, tmp_path: Path, words: str, asked: dict[str, Any]) -> None:
    wanted: dict[str, Any] = {"source": tmp_path, "output": tmp_path / "out", **asked}
    with pytest.raises(ValueError, match=words):
        await run(box, wanted.pop("source"), wanted.pop("output"), **wanted)
    assert box.ledger.requests == []


async def test_an_output_that_is_a_file_is_an_error(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(OSError, match="out"):
        await run(box, make(tmp_path / "photos", "a.jpg"), tmp_path / "out")
    assert box.ledger.requests == []


async def test_many_photos_go_through_few_slots(box: Sandbox, tmp_path: Path) -> None:
    source = make(tmp_path / "photos", *(f"{number:03}.jpg" for number in range(300)))
    async with client(box, max_concurrency=8) as phota:
        report = await phota.enhance_folder(source, tmp_path / "out")
    assert counts(report) == {"enhanced": 300}
    assert box.ledger.widest <= 8
    assert set(box.ledger.charges.values()) == {1}
    events = list[FolderEvent]()
    for on_event in (events.append, None):
        report = await run(box, source, tmp_path / "out", on_event=on_event)
        assert counts(report) == {"skipped": 300}
    skipped = [event for event in events if event.kind == "skipped"]
    assert [event.source for event in skipped] == [source / f"{number:03}.jpg" for number in range(300)]
    assert [event.progress.skipped for event in skipped] == [*range(1, 301)]
