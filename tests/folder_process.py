"""Folder runs in processes of their own, a folder of photos and its sandbox, and what must hold after every crash."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from attrs import define, field, frozen
from PIL import Image

from phota_async.journal import LOCK_NAME, NAME
from phota_async.sandbox import Sandbox

KEY = "phota-key-that-belongs-in-no-file"
LONG_EDGE = 128
KILLED = -9
DRIVER = Path(__file__).with_name("folder_driver.py")
PATIENCE = 45.0

Line: TypeAlias = dict[str, Any]


# ---- runs


@frozen
class Ended:
    """How a run's process ended, and what it told before."""

    status: int
    lines: list[Line]

    @property
    def report(self) -> Line | None:
        return next((line["report"] for line in self.lines if "report" in line), None)

    @property
    def raised(self) -> Line | None:
        return next((line for line in self.lines if "raised" in line), None)

    @property
    def operations(self) -> int:
        return sum("operation" in line for line in self.lines)

    def whole(self) -> Line:
        """Return the report of a run that came to its end by itself."""
        assert self.status == 0, self.lines[-3:]
        assert self.report is not None
        return self.report


class Driver:
    """Makes one run at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  (our own script)
            [sys.executable, str(DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.told: list[Line] = []
        self._under_way = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(1.0 if error else PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            self._process.stdout.close()

    def _read(self) -> None:
        for raw in self._process.stdout or ():
            if raw.startswith(b"{") and raw.endswith(b"}\n"):
                self._lines.put(json.loads(raw))
        self._lines.put(None)

    def start(self, job: Line) -> None:
        """Begin a run."""
        assert self._process.stdin is not None
        if self._under_way:  # by a test that failed
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            while "ended" not in (self._lines.get(timeout=PATIENCE) or {"ended": None}):
                pass
        self.told, self._under_way = [], True
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()

    def until(self, seen: Callable[[Line], object]) -> Line:
        """Wait for a line."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            assert line is not None, "the driver has ended"
            self.told.append(line)
            assert "bug" not in line, line["bug"]
            if seen(line):
                return line
            assert "ended" not in line, f"the run ended: {self.told[-3:]}"

    def until_event(self, kind: str) -> Line:
        """Wait for an event."""
        return self.until(lambda line: line.get("event") == kind)

    def until_ended(self) -> Ended:
        """Wait for the end of the run."""
        status: int = self.until(lambda line: "ended" in line)["ended"]
        self._under_way = False
        return Ended(status, self.told)

    def signal(self, number: int) -> None:
        """Send a signal to the run under way, which must be known not to end by itself."""
        began = next((line for line in self.told if "began" in line), None) or self.until(lambda line: "began" in line)
        os.kill(began["began"], number)


# ---- photos


def draw(path: Path, number: int) -> Path:
    """Make a photo that can be told by the size of its enhanced image, as all can with numbers below 240."""
    short = LONG_EDGE - 1 - number // 2
    size = (short, LONG_EDGE) if number % 2 else (LONG_EDGE, short)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.frombytes("L", size, (bytes(range(256)) * 64)[: size[0] * size[1]]).convert("RGB") as image:
        image.save(path, "PNG" if path.suffix == ".png" else "JPEG")
    return path


def noise(path: Path, number: int, *, edge: int) -> Path:
    """Make a photo whose enhanced image is large: nothing in it can be compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (edge, edge - 1 - number)
    with Image.frombytes("L", size, os.urandom(size[0] * size[1])).convert("RGB") as image:
        image.save(path, "JPEG")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- what must hold


@define(kw_only=True)
class Scene:
    """A folder of photos, its output folder, and the sandbox that both are served by."""

    box: Sandbox
    driver: Driver
    source: Path
    output: Path
    concurrency: int = 2
    always: Line = field(factory=dict[str, Any])
    kills: int = field(init=False, default=0)

    # -- doing

    def fill(self, *numbers: int) -> None:
        """Make photos, every third one in a sub-folder."""
        for number in numbers:
            draw(self.source / (f"{number}.jpg" if number % 3 else f"sub/{number}.jpg"), number)

    def job(self, **more: Any) -> Line:
        """Return what a driver is to be told; options of `enhance_folder` are taken apart from those of the driver."""
        options = {name: more.pop(name) for name in ("retry_unknown", "overwrite") if name in more}
        return {
            "source": str(self.source),
            "output": str(self.output),
            "url": self.box.url,
            "key": KEY,
            "concurrency": self.concurrency,
            "options": options,
            **self.always,
            **more,
        }

    def start(self, **more: Any) -> Driver:
        self.driver.start(self.job(**more))
        return self.driver

    def run(self, **more: Any) -> Ended:
        """Make a run, and wait until the service has done all that it was asked for."""
        ended = self.start(**more).until_ended()
        self.kills += ended.status == KILLED
        self.quiet()
        return ended

    def quiet(self) -> None:
        """Wait until the service has nothing to do any more, also for those that are gone."""
        assert self.box.ledger.wait(lambda ledger: ledger.in_flight == 0)

    # -- looking

    def photos(self) -> dict[Path, str]:
        """The photos by path below the source, with their contents."""
        inside = self.output.resolve()
        found = (path for path in sorted(self.source.rglob("*")) if inside not in path.resolve().parents)
        return {path.relative_to(self.source): sha256(path) for path in found if path.is_file()}

    def images(self) -> dict[Path, Path]:
        """The images in place, by their photos: every one is whole, and no photo has two."""
        photos = {size_of(self.source / name): name for name in self.photos()}
        images: dict[Path, Path] = {}
        for path in self.output.rglob("[!.]*"):
            if path.is_file():
                name = photos[size_of(path)]
                assert name not in images
                images[name] = path
        return images

    def files(self) -> set[Path]:
        """Every file in the output folder, relative."""
        return {path.relative_to(self.output) for path in self.output.rglob("*") if not path.is_dir()}

    def charges(self) -> Counter[str]:
        return self.box.ledger.charges

    # -- judging

    def settle(self, *, in_flight: int) -> int:
        """Make the last runs, hold all that must hold, and return how many photos were in doubt.

        Args:
            in_flight: How many requests were under way, at most, when the runs before were broken off.
        """
        photos, before = self.photos(), self.charges()
        safe = {photos[name] for name in self.images()}

        report = self.run().whole()
        unknown = {Path(one[0]).relative_to(self.source) for one in report["failures"]}
        assert (report["failed"], report["not_attempted"], report["stopped_by"]) == (0, 0, None), report
        assert report["enhanced"] + report["skipped"] + len(unknown) == len(photos)
        assert len(unknown) == report["unknown"] <= in_flight
        assert set(self.images()) == photos.keys() - unknown
        # Nobody asked to buy again: nothing is paid for twice, and what is lost is told.
        charges = self.charges()
        assert charges.keys() <= set(photos.values())
        assert set(charges.values()) <= {1}
        assert {photos[name] for name in photos.keys() - unknown} <= charges.keys()
        assert not safe & (charges - before).keys()

        report = self.run(retry_unknown=True).whole()
        assert (report["enhanced"], report["skipped"]) == (len(unknown), len(photos) - len(unknown))
        charges = self.charges()
        assert charges.keys() == set(photos.values())
        assert all(charges[sha] == 1 for name, sha in photos.items() if name not in unknown)
        assert charges.total() - len(photos) <= len(unknown)
        self.check_end()
        return len(unknown)

    def check_end(self) -> None:
        """Hold that all is there, once, and nothing else: no temporary file, and the key nowhere."""
        images = self.images()
        assert images.keys() == self.photos().keys()
        assert self.files() == {path.relative_to(self.output) for path in images.values()} | JOURNAL
        assert not (self.output / LOCK_NAME).stat().st_size
        assert not any(KEY.encode() in (self.output / name).read_bytes() for name in self.files())
        assert not self.box.ledger.keys_on_downloads

    def check_still(self) -> None:
        """Hold that one more run costs nothing and changes nothing."""
        before, files = self.charges(), self.identities()
        assert self.run().whole()["skipped"] == len(self.photos())
        assert (self.charges(), self.identities()) == (before, files)

    def identities(self) -> dict[Path, tuple[int, int, int]]:
        """What tells that the images are the very same files."""
        status = {path: path.stat() for path in self.images().values()}
        return {path: (one.st_ino, one.st_size, one.st_mtime_ns) for path, one in status.items()}


JOURNAL = {Path(NAME), Path(LOCK_NAME)}


def size_of(path: Path) -> tuple[int, int]:
    """Decode an image to its last byte, and return its size."""
    with Image.open(path) as image:
        image.load()
        return image.size


@contextmanager
def sandbox() -> Generator[Sandbox]:
    with Sandbox(long_edge=LONG_EDGE, keys={KEY}) as box:
        yield box
