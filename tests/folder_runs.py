"""Folder runs for tests: small photos that differ, a client of a sandbox, what stands in a folder, what is known."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio import to_thread
from blockbuster import BlockBuster
from PIL import Image

from phota_async import FolderEvent, FolderReport, PhotaClient, RetryPolicy
from phota_async.journal import LOCK_NAME, NAME, views
from phota_async.records import FolderStatus, PhotoRecord
from phota_async.sandbox import Sandbox

KEY = "a-key-that-nobody-may-see"
AT_ONCE = RetryPolicy(initial_wait=0.0, max_wait=0.0)
NO_RETRY = RetryPolicy(max_attempts=1)


def picture(seed: object) -> bytes:
    """Return a small photo; another seed gives other pixels."""
    file = io.BytesIO()
    Image.frombytes("RGB", (8, 8), hashlib.shake_256(str(seed).encode(errors="surrogateescape")).digest(192)).save(
        file, "PNG"
    )
    return file.getvalue()


def sha256(seed: object) -> str:
    """Return what the sandbox's ledger knows that photo by."""
    return hashlib.sha256(picture(seed)).hexdigest()


def put(path: Path, seed: object = None) -> Path:
    """Write a photo, by default one of its own name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(path.name if seed is None else seed))
    return path


def make(folder: Path, *names: str) -> Path:
    """Make a folder of photos that all differ."""
    for name in names:
        put(folder / name, name)
    return folder


@contextmanager
def nested(top: Path, name: str, depth: int) -> Generator[None]:
    """Have a photo that deep below a folder, in folders of one name: too deep to be made or removed otherwise."""
    before = Path.cwd()
    try:
        os.chdir(top)
        for _ in range(depth):
            Path(name).mkdir()
            os.chdir(name)
        put(Path("a.jpg"))
        os.chdir(before)
        yield
    finally:
        os.chdir(top)
        for _ in range(depth):
            os.chdir(name)
        Path("a.jpg").unlink()
        for _ in range(depth):
            os.chdir("..")
            Path(name).rmdir()
        os.chdir(before)


def standing(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder but the journal's own."""
    own = {NAME, LOCK_NAME, f"{NAME}-wal", f"{NAME}-shm"}
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in own)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def client(box: Sandbox, **options: Any) -> PhotaClient:
    settings: dict[str, Any] = {"base_url": box.url, "retry": AT_ONCE, **options}
    return PhotaClient(KEY, **settings)


async def run(box: Sandbox, source: Any, output: Any, **options: Any) -> FolderReport:
    async with client(box) as phota:
        return await phota.enhance_folder(source, output, **options)


async def one_by_one(box: Sandbox, source: Any, output: Any, **options: Any) -> FolderReport:
    async with client(box, max_concurrency=1) as phota:
        return await phota.enhance_folder(source, output, **options)


def counts(report: FolderReport) -> dict[str, int]:
    """Return the counts that are not 0."""
    names = ("enhanced", "skipped", "failed", "unknown", "not_attempted")
    return {name: count for name in names if (count := getattr(report, name))}


async def known(output: Path) -> dict[str, PhotoRecord]:
    """Return what the journal knows of each photo of the last run."""
    return await to_thread.run_sync(lambda: {record.name: record for record in views.records(output)})


async def states(output: Path) -> dict[str, str]:
    return {name: record.state for name, record in (await known(output)).items()}


async def status(output: Path) -> FolderStatus:
    return await to_thread.run_sync(views.status, output)


async def journalled(output: Path) -> bytes:
    return await to_thread.run_sync((output / NAME).read_bytes)


@contextmanager
def blocking(blockbuster: BlockBuster) -> Generator[None]:
    """Let a test's own hook touch the disk."""
    blockbuster.deactivate()
    try:
        yield
    finally:
        blockbuster.activate()


def once(
    blockbuster: BlockBuster, kind: str, act: Callable[[], object], name: str | None = None
) -> Callable[[FolderEvent], None]:
    """Return a hook that acts at the first event of a kind (about one photo)."""
    acted: list[object] = []

    def hook(event: FolderEvent) -> None:
        about = name is None or (event.source is not None and event.source.name == name)
        if event.kind == kind and about and not acted:
            acted.append(event)
            with blocking(blockbuster):
                act()

    return hook


def with_the_times_of(path: Path, data: bytes) -> None:
    """Give a file other bytes without changing its time of modification."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
