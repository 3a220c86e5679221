"""Folder runs and the command line leave the key nowhere: in no file, line or argument, not even when they are killed.

Signed links are kept in the journal, whole, because a later run needs them, and are shown nowhere. (Links that are paid
for and could not be written to the journal are the exception: to lose them would be worse.)
"""

from __future__ import annotations

import re
import shutil
import signal
import stat
import sys
from pathlib import Path

import pytest
from cli_process import KEY, PHOTOS, json_lines, phota, running
from raw_server import PHOTO

from phota_async.journal import NAME
from phota_async.sandbox import Fault, Sandbox

SIGNED = re.compile(rb"signature=([0-9a-f]{64})")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copy(PHOTOS / name, folder)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def looked_at(out: Path) -> str:
    """What every command that looks at a folder prints."""
    commands = (("status", out), ("status", out, "-v"), ("status", out, "--json"), ("report", out))
    return "".join(f"{done.stdout}{done.stderr}" for done in (phota(*command) for command in commands))


def signatures(out: Path) -> set[str]:
    """What the journal and its log have of signed links."""
    journal = [data for name, data in files(out).items() if name.startswith(NAME)]
    return {found.decode() for data in journal for found in SIGNED.findall(data)}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_run_shows_neither_the_key_nor_a_signature(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    repeats = Fault(status=400, code=KEY, detail=f"no account has the key {KEY}")
    phota_sandbox.script(Fault(stall=0.5), repeats, Fault(reset="after"))
    phota_sandbox.script_downloads(Fault(status=400))
    words = ("-j", "1", "-vv", "--json", "--report")
    terminal = {"FORCE_COLOR": "1", "COLUMNS": "300"}
    with running("enhance", photos, "-o", out, *words, box=phota_sandbox, env=terminal) as run:
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 1)
        running_as = Path(f"/proc/{run.pid}")
        arguments = (running_as / "cmdline").read_bytes() + (running_as / "comm").read_bytes()
        children = "".join(path.read_text() for path in running_as.glob("task/*/children"))
        printed, told = run.communicate()
    assert b"enhance" in arguments
    assert KEY.encode() not in arguments
    assert children == ""  # nobody to inherit the environment
    statuses = sorted(line.get("status", "") for line in json_lines(printed))
    assert statuses == ["", "enhanced", "failed", "failed", "unknown"]
    assert "no account has the key ***" in told
    assert "the server answered 400: http" in told
    said = printed + told + looked_at(out)
    assert KEY not in said
    assert signatures(out)
    shown = {name: data for name, data in files(out).items() if not name.startswith(NAME)}
    assert {Path(name).suffix for name in shown} >= {".html", ".png"}
    assert [name for name, data in files(out).items() if KEY.encode() in data] == []
    for signature in signatures(out):
        assert signature not in said
        assert [name for name, data in shown.items() if signature.encode() in data] == []


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files")
def test_a_killed_run_leaves_links_whole_for_its_owner_alone_and_the_key_nowhere(
    photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script_downloads(Fault(stall=1000))
    with running("enhance", photos / "chelsea.png", "-o", out, box=phota_sandbox) as run:
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.downloads)
        run.send_signal(signal.SIGKILL)
        printed, told = run.communicate()
    (signature,) = signatures(out)
    assert f"{NAME}-wal" in files(out)
    assert [name for name, data in files(out).items() if KEY.encode() in data] == []
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir() if path.stat().st_size}
    assert {mode for name, mode in modes.items() if name.startswith(NAME)} == {0o600}
    assert signature not in printed + told + looked_at(out)
    again = phota("enhance", photos / "chelsea.png", "-o", out, box=phota_sandbox)
    assert (again.returncode, phota_sandbox.ledger.charged_images) == (0, 1)
    assert not phota_sandbox.ledger.keys_on_downloads


# ---- what cannot run


def ended(*arguments: str, photo: Path, **environment: str) -> str:
    """Run what cannot run, and return all that it says."""
    photo.write_bytes(PHOTO)
    done = phota("enhance", photo, "-o", photo.parent / "out", "-vv", *arguments, env=environment)
    assert done.returncode in {1, 2, 3}
    return done.stdout + done.stderr


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY} x", f"{KEY}é"])
def test_a_key_that_is_refused_is_not_repeated(key: str, tmp_path: Path) -> None:
    told = ended(photo=tmp_path / "a.jpg", PHOTA_API_KEY=key)
    assert "api_key must be printable ASCII" in told
    assert KEY not in told


def test_a_key_among_the_arguments_is_not_taken_and_not_repeated(tmp_path: Path) -> None:
    told = ended(f"--api-key={KEY}", photo=tmp_path / "a.jpg")
    assert "No such option" in told
    assert KEY not in told


@pytest.mark.parametrize("url", [f"https://user:{KEY}@h/v1", f"https://h/v1?key={KEY}", f"ftp://{KEY}@h"])
@pytest.mark.parametrize("place", ["argument", "environment"])
def test_the_secrets_of_an_address_are_not_repeated(url: str, place: str, tmp_path: Path) -> None:
    given, environment = (("--base-url", url), {}) if place == "argument" else ((), {"PHOTA_BASE_URL": url})
    told = ended(*given, photo=tmp_path / "a.jpg", PHOTA_API_KEY="k", **environment)
    assert "base_url must be" in told
    assert KEY not in told


def test_a_proxys_password_is_not_repeated(tmp_path: Path) -> None:
    service = {"PHOTA_API_KEY": "k", "PHOTA_BASE_URL": "https://h.invalid"}
    told = ended(photo=tmp_path / "a.jpg", https_proxy=f"socks5://user:{KEY}@127.0.0.1:1", **service)
    assert "proxy must be" in told
    assert KEY not in told
    assert [name for name, data in files(tmp_path).items() if KEY.encode() in data] == []
