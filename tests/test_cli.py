"""The command line as a real process: what it prints, what it leaves on the disk, how it ends."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from phota_async import PhotaClient
from phota_async.cli.job import Job, run
from phota_async.cli.progress import Counts, shown
from phota_async.models import EnhanceOptions
from phota_async.sandbox import Fault, Sandbox

PHOTOS = Path(__file__).parent / "photos"
COMMAND = [sys.executable, "-c", "from phota_async.cli import main; main()"]


def environment(box: Sandbox | None, **extra: str) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PHOTA_")}
    to_box = {} if box is None else {"PHOTA_API_KEY": "canary-key", "PHOTA_BASE_URL": box.url}
    return {**bare, **to_box, **extra}


def phota(*arguments: str | Path, box: Sandbox | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    extra = options.pop("env", {})
    return subprocess.run(  # noqa: S603
        [*COMMAND, *map(str, arguments)],
        env=environment(box, **extra),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        **options,
    )


@contextmanager
def running(*arguments: str | Path, box: Sandbox | None) -> Generator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603
        [*COMMAND, *map(str, arguments)],
        env=environment(box),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    shutil.copy(PHOTOS / "chelsea.png", folder / "chelsea.png")
    shutil.copy(PHOTOS / "rocket.jpg", folder / "trip" / "rocket.jpg")
    return folder


def test_a_folder_is_enhanced_through_the_sandbox_without_a_key(photos: Path, tmp_path: Path) -> None:
    done = phota("enhance", photos, "-o", tmp_path / "out", "--sandbox")
    assert done.returncode == 0
    assert sorted(done.stdout.split()) == [
        str(tmp_path / "out" / "chelsea.png"),
        str(tmp_path / "out" / "trip" / "rocket.png"),
    ]
    assert (tmp_path / "out" / "trip" / "rocket.png").read_bytes().startswith(b"\x89PNG")
    assert "nothing is charged" in done.stderr
    assert re.search(r"2 enhanced, 0 failed, 0\.24 USD \(not charged\), \d+\.\d s → ", done.stderr)


def test_json_lines_tell_each_photo_and_then_the_sum(photos: Path, tmp_path: Path, phota_sandbox: Sandbox) -> None:
    (photos / "note.jpg").write_text("not a photo")
    done = phota("enhance", photos, "-o", tmp_path / "out", "--json", "-n", "2", "--format", "jpg", box=phota_sandbox)
    *lines, summary = [json.loads(line) for line in done.stdout.splitlines()]
    by_name = {Path(line["source"]).name: line for line in lines}
    assert by_name["chelsea.png"]["outputs"] == [str(tmp_path / "out" / f"chelsea-{n}.jpg") for n in (1, 2)]
    assert by_name["rocket.jpg"]["request_id"]
    assert by_name["note.jpg"]["status"] == "failed"
    assert by_name["note.jpg"]["error"].startswith("ImageError")
    assert summary["summary"] | {"elapsed": 0} == {
        "enhanced": 2,
        "failed": 1,
        "skipped": 0,
        "not_attempted": 0,
        "unknown": 0,
        "spent_usd": 0.48,
        "elapsed": 0,
    }
    assert summary["exit_code"] == done.returncode == 3
    assert phota_sandbox.ledger.charged_images == 4


def test_options_reach_the_service(photos: Path, tmp_path: Path, phota_sandbox: Sandbox) -> None:
    words = ("--prompt", "soften", "--profile-id", "a1", "--profile-id", "b2")
    done = phota("enhance", photos / "chelsea.png", "-o", tmp_path / "out", *words, "-v", box=phota_sandbox)
    (request,) = phota_sandbox.ledger.requests
    assert (request.prompt, request.key) == ("soften", "canary-key")
    assert "0.15 USD" in done.stderr
    assert "canary-key" not in done.stdout + done.stderr


def test_what_is_there_is_not_bought_again(photos: Path, phota_sandbox: Sandbox) -> None:
    phota("enhance", photos, "-o", photos / "out", box=phota_sandbox)
    again = phota("enhance", photos, photos / "chelsea.png", "-o", photos / "out", box=phota_sandbox)
    assert "2 skipped (already there)" in again.stderr
    assert (again.returncode, phota_sandbox.ledger.charged_images) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["enhance", "{photos}", "-o", "{out}"], 1, "PHOTA_API_KEY"),
        (["enhance", "{photos}/none.jpg", "-o", "{out}", "--sandbox"], 2, "does not exist"),
        (["enhance", "{empty}", "-o", "{out}", "--sandbox"], 1, "no photo among the sources"),
        (["enhance", "{photos}", "-o", "{photos}/chelsea.png/out", "--sandbox"], 1, "chelsea.png"),
        (["enhance", "{photos}", "-o", "{out}", "--sandbox", "-n", "5"], 2, "1<=x<=4"),
        (["enhance", "{photos}", "-o", "{out}", "--base-url", "http://example.com"], 1, "base_url must be https"),
        (["enhance"], 2, "SRC"),
        (["sandbox", "--host", "256.0.0.1"], 1, "cannot serve on 256.0.0.1:8321"),
    ],
)
def test_what_cannot_run_says_why(arguments: list[str], code: int, words: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    places = {"photos": photos, "out": tmp_path / "out", "empty": tmp_path / "empty"}
    key = {} if words == "PHOTA_API_KEY" else {"PHOTA_API_KEY": "k"}
    done = phota(*(argument.format(**places) for argument in arguments), env=key)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_account_without_credits_stops_the_run(photos: Path, tmp_path: Path) -> None:
    with Sandbox(long_edge=64, credits=0.12) as box:
        done = phota("enhance", photos, PHOTOS, "-o", tmp_path / "out", "-j", "1", "--json", box=box)
    assert done.returncode == 4
    assert "the account has no credits left" in done.stderr
    statuses = [json.loads(line).get("status") for line in done.stdout.splitlines()]
    assert statuses == ["enhanced", "failed", *["not_attempted"] * 4, None]


def test_an_unknown_outcome_has_an_exit_code_of_its_own(photos: Path, tmp_path: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(Fault(reset="after", charged=True))
    done = phota("enhance", photos, "-o", tmp_path / "out", "-j", "1", box=phota_sandbox)
    assert done.returncode == 6
    assert "1 of the failed may have been charged" in done.stderr
    assert phota_sandbox.ledger.charged_images == 2


def test_the_first_interrupt_lets_paid_calls_land(photos: Path, tmp_path: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(Fault(stall=1.0))
    with running("enhance", photos, "-o", tmp_path / "out", "-j", "1", box=phota_sandbox) as process:
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 1)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "press Ctrl-C again" in told
    assert "1 enhanced, 0 failed, 1 not attempted" in told
    assert phota_sandbox.ledger.charged_images == len(list((tmp_path / "out").rglob("*.png"))) == 1


def test_the_second_interrupt_stops_at_once(photos: Path, tmp_path: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(Fault(stall=1000))
    with running("enhance", photos, "-o", tmp_path / "out", "-j", "1", box=phota_sandbox) as process:
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 1)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "press Ctrl-C again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "1 of the failed may have been charged" in told
    assert "Traceback" not in told


def job_for(*sources: Path, output: Path, box: Sandbox) -> Job:
    return Job(
        sources=sources,
        output=output,
        options=EnhanceOptions(),
        jobs=1,
        sandbox=False,
        base_url=box.url,
        as_json=False,
    )


def test_a_full_disk_stops_the_run_and_leaves_nothing_half(
    photos: Path, tmp_path: Path, phota_sandbox: Sandbox
) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    # Coverage's own file would be too large as well.
    unmeasured = {name: "" for name in os.environ if name.startswith("COVERAGE")}
    sources, out = (photos, PHOTOS), tmp_path / "out"
    done = phota("enhance", *sources, "-o", out, "-j", "1", box=phota_sandbox, env=unmeasured, preexec_fn=small_files)
    assert done.returncode == 1
    assert "cannot write to" in done.stderr
    # The call that was under way when the first image could not be written has landed too.
    assert "2 failed, 4 not attempted" in done.stderr
    assert [path for path in out.rglob("*") if path.is_file()] == []


async def test_a_place_that_cannot_be_written_stops_the_run(
    photos: Path, tmp_path: Path, phota_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTA_API_KEY", "key")
    out, told = tmp_path / "out", StringIO()
    out.mkdir()
    (out / "trip").write_text("a file where a folder is needed")
    code = await run(job_for(photos, PHOTOS, output=out, box=phota_sandbox), Console(file=told))
    assert code == 1
    assert "cannot write to" in told.getvalue()
    assert "not attempted" in told.getvalue()
    assert (out / "chelsea.png").exists()


async def test_a_cancelled_run_passes_the_cancellation_on(
    photos: Path, tmp_path: Path, phota_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTA_API_KEY", "key")
    phota_sandbox.script(Fault(stall=1000))
    task = asyncio.create_task(
        run(job_for(photos, output=tmp_path / "out", box=phota_sandbox), Console(file=StringIO()))
    )
    assert await asyncio.to_thread(phota_sandbox.ledger.wait, lambda ledger: ledger.in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


IMAGE = base64.b64encode((PHOTOS / "chelsea.png").read_bytes()).decode()


def answering(*images: str, links: tuple[str, ...] = ()) -> Fault:
    body = {"images": images, "download_urls": links, "known_subjects": None}
    return Fault(status=200, body=json.dumps(body).encode())


async def link_of(box: Sandbox) -> str:
    async with PhotaClient("key", base_url=box.url) as client:
        return (await client.enhance(PHOTOS / "coffee.png", response_mode="urls")).download_urls[0]


async def test_links_that_came_in_place_of_images_are_fetched(
    photos: Path, tmp_path: Path, phota_sandbox: Sandbox
) -> None:
    link = await link_of(phota_sandbox)
    phota_sandbox.script(answering(links=(link,)), answering(links=("https://[::1]/x.png",)))
    done = await asyncio.to_thread(phota, "enhance", photos, "-o", tmp_path / "out", "-j", "1", box=phota_sandbox)
    assert done.returncode == 3
    assert (tmp_path / "out" / "chelsea.png").read_bytes().startswith(b"\x89PNG")
    assert "the link leads to an address that is not public" in done.stderr
    assert "1 enhanced, 1 failed, 0.24 USD" in done.stderr


def test_fewer_images_than_asked_for_are_told_and_not_bought_again(
    photos: Path, tmp_path: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(answering(IMAGE))
    for words in ("1 of 2 images came", "1 skipped"):
        done = phota("enhance", photos / "chelsea.png", "-o", tmp_path / "out", "-n", "2", box=phota_sandbox)
        assert (done.returncode, words in done.stderr) == (0, True)
    assert len(phota_sandbox.ledger.requests) == 1


def test_an_image_in_another_format_is_kept_and_not_bought_again(
    photos: Path, tmp_path: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(answering(IMAGE))
    for _ in range(2):
        done = phota("enhance", photos / "chelsea.png", "-o", tmp_path / "out", "--format", "jpg", box=phota_sandbox)
        assert done.returncode == 0
    assert (tmp_path / "out" / "chelsea.png").exists()
    assert len(phota_sandbox.ledger.requests) == 1


def test_images_that_came_intact_with_a_broken_answer_are_saved(
    photos: Path, tmp_path: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(answering(IMAGE, "***"), answering(IMAGE, "***"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trip").write_text("a file where a folder is needed")
    done = phota("enhance", photos, "-o", tmp_path / "out", "-n", "2", "-j", "1", box=phota_sandbox)
    assert (tmp_path / "out" / "chelsea-1.png").exists()
    assert "saved from an answer that failed" in done.stderr
    assert "cannot write to" in done.stderr
    assert done.returncode == 1


def test_a_reader_that_leaves_costs_nothing(photos: Path, tmp_path: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(Fault(stall=0.5))
    with running("enhance", photos, "-o", tmp_path / "out", "-j", "1", "--json", box=phota_sandbox) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
    assert phota_sandbox.ledger.charged_images == len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_a_name_that_is_not_unicode_is_no_obstacle(tmp_path: Path, phota_sandbox: Sandbox) -> None:
    source = tmp_path / os.fsdecode(b"caf\xe9.png")
    shutil.copy(PHOTOS / "chelsea.png", source)
    done = phota("enhance", source, "-o", tmp_path / "out", box=phota_sandbox, env={"PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode == 0
    assert "\\udce9" in done.stdout


def test_after_an_interrupt_nothing_is_bought_that_waited(photos: Path, tmp_path: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(*[Fault(status=503, retry_after=3)] * 2)
    with running("enhance", photos, "-o", tmp_path / "out", "-j", "2", "-v", box=phota_sandbox) as process:
        assert process.stderr is not None
        heard = ""
        while heard.count("attempt 1 failed") < 2:
            heard += process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "0 enhanced, 2 failed" in told
    assert (len(phota_sandbox.ledger.requests), phota_sandbox.ledger.charged_images) == (2, 0)


def test_after_an_interrupt_what_never_began_is_told(tmp_path: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(Fault(status=503, retry_after=10), Fault(stall=1.0))
    with running("enhance", PHOTOS, "-o", tmp_path / "out", "-j", "2", "--json", box=phota_sandbox) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]  # one is enhanced; the next one waits until the service may be asked again
        process.send_signal(signal.SIGINT)
        lines += process.communicate()[0].splitlines()
    statuses = sorted(json.loads(line).get("status", "") for line in lines)
    assert statuses == ["", "enhanced", "failed", "not_attempted", "not_attempted"]
    assert phota_sandbox.ledger.charged_images == 1


def test_an_empty_profile_id_is_wrong_usage(photos: Path, tmp_path: Path) -> None:
    done = phota("enhance", photos, "-o", tmp_path / "out", "--profile-id", "", "--sandbox")
    assert (done.returncode, "profile_ids must hold strings" in done.stderr) == (2, True)


def test_a_terminal_gets_a_live_bar(photos: Path, tmp_path: Path, phota_sandbox: Sandbox) -> None:
    (photos / "note.jpg").write_text("not a photo")
    terminal = {"FORCE_COLOR": "1", "COLUMNS": "200"}
    done = phota("enhance", photos, "-o", tmp_path / "out", box=phota_sandbox, env=terminal)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stderr)
    assert "in flight" in plain
    assert "1 failed" in plain
    assert "/min" in plain


def test_elsewhere_a_line_is_printed_now_and_then() -> None:
    counts, printed = Counts(3, enhanced=1, in_flight=2, spent_usd=0.12), StringIO()
    with shown(counts, Console(file=printed), every=0.0) as refresh:
        refresh()
    assert printed.getvalue().startswith("1 of 3: 1 enhanced, 0 failed, 2 in flight, 0.12 USD, ")


def test_the_sandbox_command_serves_until_interrupted(tmp_path: Path) -> None:
    with running("sandbox", "--port", "0", box=None) as process:
        assert process.stderr is not None
        told = process.stderr.readline() + process.stderr.readline()
        url = told.rpartition("PHOTA_BASE_URL=")[2].strip()
        done = phota(
            "enhance", PHOTOS / "chelsea.png", "-o", tmp_path, env={"PHOTA_API_KEY": "k", "PHOTA_BASE_URL": url}
        )
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert (done.returncode, (tmp_path / "chelsea.png").exists()) == (0, True)


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [("click", [], "[cli]"), ("rich", [], "[cli]"), ("PIL", ["sandbox"], "[sandbox]"), ("PIL", None, "[sandbox]")],
)
def test_a_missing_extra_is_named(missing: str, arguments: list[str] | None, extra: str, photos: Path) -> None:
    given = ["enhance", str(photos), "-o", str(photos / "out"), "--sandbox"] if arguments is None else arguments
    code = f"import sys; sys.modules[{missing!r}] = None; from phota_async.cli import main; main()"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, *given], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert f"phota-async{extra}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_installation_is_no_missing_extra() -> None:
    code = "import sys; sys.modules['phota_async.cli.job'] = None; from phota_async.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)  # noqa: S603
    assert "ModuleNotFoundError" in done.stderr
