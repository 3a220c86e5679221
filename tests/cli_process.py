"""The command line: run inside the test's process, or in one of its own where that is the point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from click.testing import CliRunner

from phota_async.cli.commands import group
from phota_async.sandbox import Sandbox

PHOTOS = Path(__file__).parent / "photos"
KEY = "canary-key"
COMMAND = [sys.executable, "-c", "from phota_async.cli import main; main()"]


def environment(box: Sandbox | None, **extra: str) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PHOTA_")}
    to_box = {} if box is None else {"PHOTA_API_KEY": KEY, "PHOTA_BASE_URL": box.url}
    return {**bare, **to_box, **extra}


@frozen
class Done:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def phota(
    *arguments: str | Path, box: Sandbox | None = None, given: bytes = b"", env: dict[str, str] | None = None
) -> Done:
    """Run it to its end, inside this process."""
    runner = CliRunner(env=environment(box, **(env or {})))
    done = runner.invoke(group, [*map(str, arguments)], input=given, catch_exceptions=False, prog_name="phota-async")
    return Done(done.exit_code, done.stdout, done.stderr)


def process(*arguments: str | Path, box: Sandbox | None = None, **options: Any) -> Done:
    """Run it to its end, in a process of its own."""
    done = subprocess.run(  # noqa: S603
        [*options.pop("command", COMMAND), *map(str, arguments)],
        env=environment(box, **options.pop("env", {})),
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
        check=False,
        **options,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(
    *arguments: str | Path, box: Sandbox | None, env: dict[str, str] | None = None
) -> Generator[subprocess.Popen[str]]:
    """Run it while the block runs, and no longer."""
    with subprocess.Popen(  # noqa: S603
        [*COMMAND, *map(str, arguments)],
        env=environment(box, **(env or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: subprocess.Popen[str], words: str) -> str:
    """Wait until ``words`` are told on stderr, and return all that was."""
    assert process.stderr is not None
    told = ""
    while words not in told:
        line = process.stderr.readline()
        assert line, told
        told += line
    return told


def json_lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def two_photos(folder: Path) -> Path:
    """Make a folder with a photo and one in a sub-folder."""
    (folder / "trip").mkdir(parents=True)
    shutil.copy(PHOTOS / "chelsea.png", folder / "chelsea.png")
    shutil.copy(PHOTOS / "rocket.jpg", folder / "trip" / "rocket.jpg")
    return folder
