"""The command line as a real process: what it prints, what it leaves on the disk, how it ends."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
from cli_process import KEY, PHOTOS, json_lines, phota, process, running, two_photos

from phota_async.journal import NAME
from phota_async.sandbox import Fault, Sandbox


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return two_photos(tmp_path / "photos")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def images(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.name[0] != ".")


# ---- results


def test_a_folder_is_enhanced_through_the_sandbox_without_a_key(photos: Path, out: Path) -> None:
    done = process("enhance", photos, "-o", out, "--sandbox")
    assert done.returncode == 0
    assert sorted(done.stdout.split()) == [str(out / "chelsea.png"), str(out / "trip" / "rocket.png")]
    assert (out / "trip" / "rocket.png").read_bytes().startswith(b"\x89PNG")
    assert "no key is used and nothing is charged" in done.stderr
    assert re.search(r"2 enhanced, 0 failed, 0\.24 USD \(not charged\), \d+\.\d s → ", done.stderr)


def test_json_lines_tell_each_photo_and_then_the_sum(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    (photos / "note.jpg").write_text("not a photo")
    done = phota("enhance", photos, "-o", out, "--json", "-n", "2", "--format", "jpg", box=phota_sandbox)
    *lines, summary = json_lines(done.stdout)
    by_name = {Path(line["source"]).name: line for line in lines}
    assert by_name["chelsea.png"] == {
        "source": str(photos / "chelsea.png"),
        "status": "enhanced",
        "outputs": [str(out / f"chelsea-{n}.jpg") for n in (1, 2)],
        "request_id": by_name["chelsea.png"]["request_id"],
        "cost_usd": 0.24,
    }
    assert by_name["rocket.jpg"]["request_id"]
    assert by_name["note.jpg"]["status"] == "failed"
    assert by_name["note.jpg"]["error"].startswith("ImageError: ")
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
    assert "1 failed: why is said above" in done.stderr
    assert phota_sandbox.ledger.charged_images == 4


def test_options_reach_the_service_and_the_key_nothing_else(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    words = ("--prompt", "soften", "--profile-id", "a1", "--profile-id", "b2", "-vv", "--report")
    done = process("enhance", photos / "chelsea.png", "-o", out, *words, box=phota_sandbox)
    (request,) = phota_sandbox.ledger.requests
    assert (request.prompt, request.profile_ids, request.key) == ("soften", ("a1", "b2"), KEY)
    assert "0.15 USD" in done.stderr
    assert f"report: {out / 'report.html'}" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert [path for path in out.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


def test_the_address_given_goes_before_the_environment(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    env = {"PHOTA_API_KEY": "k", "PHOTA_BASE_URL": "https://example.invalid"}
    given = ("--base-url", phota_sandbox.url, "--no-progress")
    done = phota("enhance", photos, "-o", out, *given, env=env)
    assert (done.returncode, phota_sandbox.ledger.charged_images) == (0, 2)


def test_what_is_done_is_not_bought_again(photos: Path, phota_sandbox: Sandbox) -> None:
    phota("enhance", photos, "-o", photos / "out", box=phota_sandbox)
    again = phota("enhance", photos, photos / "chelsea.png", "-o", photos / "out", "--json", box=phota_sandbox)
    assert "0 enhanced, 0 failed, 2 skipped, 0.00 USD" in again.stderr
    assert [line.get("status") for line in json_lines(again.stdout)] == ["skipped", "skipped", None]
    assert (again.returncode, phota_sandbox.ledger.charged_images) == (0, 2)
    over = phota("enhance", photos, "-o", photos / "out", "--overwrite", box=phota_sandbox)
    assert (over.returncode, phota_sandbox.ledger.charged_images) == (0, 4)
    assert images(photos / "out") == ["chelsea.png", "trip/rocket.png"]


def test_a_photo_that_only_looks_unchanged_is_read_again_with_checksum(
    photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    photo = photos / "chelsea.png"
    phota("enhance", photo, "-o", out, box=phota_sandbox)
    before = photo.stat()
    data = bytearray(photo.read_bytes())
    data[-1] ^= 1  # the last check sum, which nobody reads
    photo.write_bytes(data)
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    seen = [phota("enhance", photo, "-o", out, *more, box=phota_sandbox).returncode for more in ([], ["--checksum"])]
    assert seen[0] == 0
    assert len(phota_sandbox.ledger.requests) == 2


def test_patterns_choose_the_photos(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    shutil.copy(PHOTOS / "rocket.jpg", photos / "rocket.jpg")
    chosen = ("--include", "*.jpg", "--include", "*.webp", "--exclude", "trip")
    done = phota("enhance", photos, "-o", out, *chosen, box=phota_sandbox)
    assert (done.returncode, images(out)) == (0, ["rocket.png"])
    none = phota("enhance", photos, "-o", out, "--include", "*.webp", box=phota_sandbox)
    assert (none.returncode, "that --include and --exclude let through" in none.stderr) == (1, True)


def test_a_name_that_is_not_unicode_is_no_obstacle(tmp_path: Path, out: Path, phota_sandbox: Sandbox) -> None:
    source = tmp_path / os.fsdecode(b"caf\xe9.png")
    shutil.copy(PHOTOS / "chelsea.png", source)
    done = process("enhance", source, "-o", out, box=phota_sandbox, env={"PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode == 0
    assert "\\udce9" in done.stdout


def test_a_name_has_no_power_over_the_terminal(tmp_path: Path, out: Path, phota_sandbox: Sandbox) -> None:
    (tmp_path / "a\x1b[2J\n[red]b.png").write_text("not a photo")
    done = phota("enhance", tmp_path, "-o", out, box=phota_sandbox)
    assert done.returncode == 3
    assert "\x1b" not in done.stderr
    assert "a\\x1b[2J\\x0a[red]b.png" in done.stderr


# ---- lists of names


@pytest.mark.parametrize("listed", [b"\n%s\r\n\r\n%s", b"%s\0%s\0"], ids=["lines", "NUL"])
@pytest.mark.parametrize("place", ["-", "file"])
def test_names_come_from_a_list(listed: bytes, place: str, tmp_path: Path, photos: Path, out: Path) -> None:
    names = [photos / "chelsea.png", photos / "trip"]
    if b"\0" in listed:
        names[0] = names[0].rename(photos / "\nchel\rsea.png\n")
    listing, file = listed % tuple(map(os.fsencode, names)), tmp_path / "list"
    file.write_bytes(listing)
    given = place if place == "-" else file
    words = ("enhance", "--files-from", given, "-o", out, "--dry-run", "--json", "--sandbox")
    done = phota(*words, given=listing if place == "-" else b"")
    assert done.returncode == 0, done.stderr
    sources = {line["source"] for line in json_lines(done.stdout)[:-1]}
    assert sources == {str(names[0]), str(photos / "trip" / "rocket.jpg")}


def test_a_long_list_is_read_in_pieces(tmp_path: Path, photos: Path, out: Path) -> None:
    names = [photos / f"{'x' * 200}{number}.jpg" for number in range(400)]
    for name in names:
        name.write_bytes(b"")
    (tmp_path / "list").write_text("\n".join(map(str, names)))
    given = ("--files-from", tmp_path / "list", "-o", out, "--dry-run", "--json", "--sandbox")
    done = phota("enhance", photos / "chelsea.png", *given)
    assert json_lines(done.stdout)[-1]["summary"]["send"] == 401


@pytest.mark.parametrize(
    ("listing", "code", "words"),
    [
        (b"", 0, "nothing to do: the list is empty"),
        (b"nowhere.jpg\n", 3, "cannot read"),
        (None, 2, "does not exist"),
    ],
)
def test_a_list_that_holds_nothing_of_use_says_so(
    listing: bytes | None, code: int, words: str, tmp_path: Path, phota_sandbox: Sandbox
) -> None:
    if listing is not None:
        (tmp_path / "list").write_bytes(listing)
    done = phota("enhance", "--files-from", tmp_path / "list", "-o", tmp_path / "out", box=phota_sandbox)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


# ---- what cannot run


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["enhance", "{photos}", "-o", "{out}"], 1, "PHOTA_API_KEY"),
        (["enhance", "{photos}/none.jpg", "-o", "{out}", "--sandbox"], 2, "does not exist"),
        (["enhance", "{empty}", "-o", "{out}", "--sandbox"], 1, "there is no photo to enhance"),
        (["enhance", "{photos}", "-o", "{photos}/chelsea.png/out", "--sandbox"], 1, "chelsea.png/out: Not a directory"),
        (["enhance", "{photos}", "-o", "{photos}", "--sandbox"], 1, "is the source itself"),
        (["enhance", "{photos}", "-o", "{out}", "--sandbox", "-n", "5"], 2, "1<=x<=4"),
        (["enhance", "{photos}", "-o", "{out}", "--sandbox", "--max-cost", "nan"], 1, "max_cost_usd must be"),
        (["enhance", "{photos}", "-o", "{out}", "--sandbox", "--profile-id", ""], 2, "profile_ids must hold strings"),
        (["enhance", "{photos}", "-o", "{out}", "--base-url", "http://example.com"], 1, "base_url must be https"),
        (["enhance", "-o", "{out}"], 2, "nothing to enhance: give SRC, or --files-from"),
        (["sandbox", "--host", "256.0.0.1"], 1, "cannot serve on 256.0.0.1:8321"),
    ],
)
def test_what_cannot_run_says_why(arguments: list[str], code: int, words: str, photos: Path, out: Path) -> None:
    (out.parent / "empty").mkdir()
    places = {"photos": photos, "out": out, "empty": out.parent / "empty"}
    key = {} if words == "PHOTA_API_KEY" else {"PHOTA_API_KEY": "k"}
    done = phota(*(argument.format(**places) for argument in arguments), env=key)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "Errno" not in done.stderr


def test_a_run_beside_a_run_is_refused(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(Fault(stall=1000))
    with running("enhance", photos, "-o", out, "-j", "1", box=phota_sandbox):
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 1)
        second = phota("enhance", photos, "-o", out, box=phota_sandbox)
    assert second.returncode == 1
    assert "another run is writing to" in second.stderr
    assert len(phota_sandbox.ledger.requests) == 1


def test_what_a_stand_in_made_and_what_the_service_made_do_not_mix(
    photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    assert phota("enhance", photos, "-o", out, box=phota_sandbox).returncode == 0
    key, service = {"PHOTA_API_KEY": "k"}, ("--base-url", "https://example.invalid")
    refused = phota("enhance", photos, "-o", out, *service, env=key)
    assert refused.returncode == 1
    assert "made by a local stand-in, and this run uses the service" in refused.stderr
    # The name leads nowhere, so that nothing can be sent; with the budget used up nothing is tried.
    other = out.with_name("other")
    assert phota("enhance", photos, "-o", other, *service, "--max-cost", "0", env=key).returncode == 5
    refused = phota("enhance", photos, "-o", other, "--sandbox")
    assert refused.returncode == 1
    assert "made by the service, and this run uses a local stand-in" in refused.stderr


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("click", [], "[cli]"),
        ("rich", [], "[cli]"),
        ("PIL", ["sandbox"], "[sandbox]"),
        ("PIL", ["enhance", "{photos}", "-o", "{photos}/out", "--sandbox"], "[sandbox]"),
        ("PIL", ["enhance", "{photos}", "-o", "{photos}/out", "--report"], "[report]"),
        ("PIL", ["report", "{photos}/out"], "[report]"),
    ],
)
def test_a_missing_extra_is_named(
    missing: str, arguments: list[str], extra: str, photos: Path, phota_sandbox: Sandbox
) -> None:
    if arguments[:1] == ["report"]:
        process("enhance", photos, "-o", photos / "out", box=phota_sandbox)
    code = f"import sys; sys.modules[{missing!r}] = None; from phota_async.cli import main; main()"
    command = [sys.executable, "-c", code]
    done = process(*(argument.format(photos=photos) for argument in arguments), box=phota_sandbox, command=command)
    assert done.returncode == 1
    assert f"phota-async{extra}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_installation_is_no_missing_extra() -> None:
    code = "import sys; sys.modules['phota_async.cli.job'] = None; from phota_async.cli import main; main()"
    assert "ModuleNotFoundError" in process(command=[sys.executable, "-c", code]).stderr


# ---- how it ends


def test_an_account_without_credits_stops_the_run(photos: Path, out: Path) -> None:
    with Sandbox(long_edge=64, credits=0.12) as box:
        done = phota("enhance", photos, PHOTOS, "-o", out, "-j", "1", "--json", box=box)
    assert done.returncode == 4
    assert "stopped: " in done.stderr
    assert "When the account is in order, run the same command again" in done.stderr
    *lines, last = json_lines(done.stdout)
    counts = sorted(line["status"] for line in lines)
    assert counts[0] == "enhanced"
    assert "failed" in counts
    assert set(counts) <= {"enhanced", "failed", "not_attempted", "skipped"}
    assert (last["exit_code"], last["summary"]["stopped_by"]) == (4, "account")
    assert last["summary"]["enhanced"] == 1


def test_the_budget_stops_the_run_before_it_is_passed(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    done = phota("enhance", photos, "-o", out, "--max-cost", "0.2", "-j", "1", "--json", box=phota_sandbox)
    assert done.returncode == 5
    assert "the budget of 0.20 USD would be passed: 0.12 spent" in done.stderr
    *lines, last = json_lines(done.stdout)
    by_status = {line["status"]: line for line in lines}
    assert by_status.keys() == {"enhanced", "not_attempted"}
    assert "budget of 0.20 USD" in by_status["not_attempted"]["reason"]
    assert (last["summary"]["stopped_by"], last["exit_code"]) == ("budget", 5)
    assert phota("enhance", photos, "-o", out, "--max-cost", "0.12", box=phota_sandbox).returncode == 0
    assert phota_sandbox.ledger.charged_images == 2


def test_an_unknown_outcome_has_an_exit_code_and_is_bought_again_only_when_asked(
    photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(Fault(reset="after", charged=True))
    for more, code, requests in ([], 6, 2), ([], 6, 2), (["--retry-unknown"], 0, 3):
        done = phota("enhance", photos, "-o", out, "-j", "1", *more, box=phota_sandbox)
        assert done.returncode == code
        assert len(phota_sandbox.ledger.requests) == requests
        assert ("only --retry-unknown buys them again" in done.stderr) == (code == 6)
    assert phota_sandbox.ledger.charged_images == 3


def test_what_failed_is_sent_again_only_when_asked(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(Fault(status=400, code="CONTENT_MODERATION", detail="no"))
    for more, code, requests in ([], 3, 2), ([], 3, 2), (["--retry-failed"], 0, 3):
        done = phota("enhance", photos, "-o", out, "-j", "1", *more, box=phota_sandbox)
        assert (done.returncode, len(phota_sandbox.ledger.requests)) == (code, requests)
        assert ("with --retry-failed for what was refused" in done.stderr) == (code == 3)


def test_fail_fast_stops_at_a_failure_and_not_at_one_of_an_earlier_run(out: Path, phota_sandbox: Sandbox) -> None:
    # What waits for the failed one's slot may begin before the failure is written down; nothing after that.
    phota_sandbox.script(Fault(status=400, detail="no"), Fault(stall=0.3))
    words = ("enhance", PHOTOS, "-o", out, "-j", "1", "--fail-fast")
    done = phota(*words, box=phota_sandbox)
    assert done.returncode == 3
    assert "not attempted" in done.stderr
    assert len(phota_sandbox.ledger.requests) <= 2
    again = phota(*words, box=phota_sandbox)
    assert (again.returncode, phota_sandbox.ledger.charged_images) == (3, 3)
    assert "1 failed" in again.stderr


# ---- disks


def test_a_full_disk_stops_the_run_and_what_was_paid_for_is_fetched_later(photos: Path, out: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    # Coverage's own file would be too large as well.
    unmeasured = {name: "" for name in os.environ if name.startswith("COVERAGE")}
    with Sandbox(long_edge=1024) as box:
        command = ("enhance", photos, PHOTOS, "-o", out, "-j", "1")
        done = process(*command, box=box, env=unmeasured, preexec_fn=small_files)
        assert done.returncode == 1
        assert "the output folder cannot be written to" in done.stderr
        assert (
            "Make room, make the folder writable, or put its journal back, and run the same command again"
            in done.stderr
        )
        assert images(out) == []
        paid = box.ledger.charged_images
        assert paid >= 1
        again = process(*command, box=box)
        assert again.returncode == 0
        assert box.ledger.charged_images == 4  # a photo that is there twice is bought once
    assert len(images(out)) == 6


def test_a_place_that_cannot_be_written_is_one_photos_failure(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    out.mkdir()
    (out / "trip").write_text("a file where a folder is needed")
    done = phota("enhance", photos, "-o", out, box=phota_sandbox)
    assert done.returncode == 3
    assert "is in the way of a folder" in done.stderr
    assert (out / "chelsea.png").exists()
    assert phota_sandbox.ledger.charged_images == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk is always full here")
def test_results_that_cannot_be_printed_are_an_error_that_costs_nothing(
    photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    with Path("/dev/full").open("w") as full:
        done = process("enhance", photos, "-o", out, "--json", box=phota_sandbox, stdout=full)
        looked = [process("status", out, *more, stdout=full) for more in ([], ["--json"])]
    assert done.returncode == 1
    assert "not all results could be printed: No space left on device" in done.stderr
    assert "2 enhanced, 0 failed" in done.stderr
    assert [(one.returncode, "No space left" in one.stderr) for one in looked] == [(1, True)] * 2


def test_stdout_may_be_closed(photos: Path, out: Path) -> None:
    done = process("enhance", photos, "-o", out, "--sandbox", "--json", preexec_fn=lambda: os.close(1))
    assert (done.returncode, len(images(out))) == (0, 2)


# ---- odd answers


IMAGE = base64.b64encode((PHOTOS / "chelsea.png").read_bytes()).decode()


def answering(*images: str, links: tuple[str, ...] = ()) -> Fault:
    body = {"images": images, "download_urls": links, "known_subjects": None}
    return Fault(status=200, body=json.dumps(body).encode())


def test_a_link_that_leads_astray_is_not_followed(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(answering(links=("https://[::1]/x.png",)))
    done = phota("enhance", photos / "chelsea.png", "-o", out, box=phota_sandbox)
    assert done.returncode == 3
    assert "the link leads to an address that is not public" in done.stderr
    assert "0 enhanced, 1 failed, 0.12 USD" in done.stderr


@pytest.mark.parametrize(
    ("more", "kept"),
    [(["-n", "2"], "chelsea-1.png"), (["--format", "jpg"], "chelsea.png")],
    ids=["fewer", "another format"],
)
def test_images_in_place_of_links_are_kept_and_not_bought_again(
    more: list[str], kept: str, photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(answering(IMAGE))
    for words in ("1 enhanced", "1 skipped"):
        done = phota("enhance", photos / "chelsea.png", "-o", out, *more, box=phota_sandbox)
        assert (done.returncode, words in done.stderr) == (0, True)
    assert images(out) == [kept]
    assert len(phota_sandbox.ledger.requests) == 1


def test_images_that_came_intact_with_a_broken_answer_are_saved(
    photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(answering(IMAGE, "***"))
    done = phota("enhance", photos / "chelsea.png", "-o", out, "-n", "2", box=phota_sandbox)
    assert images(out) == ["chelsea-1.png"]
    assert "what came intact is kept" in done.stderr
    assert done.returncode == 6


# ---- the sandbox


def test_the_sandbox_command_serves_until_interrupted(tmp_path: Path) -> None:
    with running("sandbox", "--port", "0", box=None) as process:
        assert process.stderr is not None
        told = process.stderr.readline() + process.stderr.readline()
        url = told.rpartition("PHOTA_BASE_URL=")[2].strip()
        env = {"PHOTA_API_KEY": "k", "PHOTA_BASE_URL": url}
        done = phota("enhance", PHOTOS / "chelsea.png", "-o", tmp_path, env=env)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert (done.returncode, (tmp_path / "chelsea.png").exists()) == (0, True)


def test_links_that_could_not_be_written_down_are_shown(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.latency = 0.5
    with running("enhance", photos / "chelsea.png", "-o", out, "--json", box=phota_sandbox) as process:
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 1)
        (out / NAME).unlink()
        printed, told = process.communicate()
    assert process.returncode == 1
    link = json_lines(printed)[0]["download_urls"][0]
    assert f"paid for: {link}" in told
    assert "put its journal back" in told
