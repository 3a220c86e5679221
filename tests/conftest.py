"""What every test stands on: asyncio alone, a loop that no call may block, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from phota_async.sandbox import Sandbox

if TYPE_CHECKING:
    from ray_workers import Workers

PHOTOS = Path(__file__).parent / "photos"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """A blocking call made by the package on an event loop is an error."""
    with blockbuster_ctx("phota_async") as active:
        # Coverage takes a lock of its own, which sandboxes in other threads may hold.
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            active.functions[name].can_block_in("coverage/collector.py", "lock_data")
        yield active


@pytest.fixture
def photo() -> Path:
    return PHOTOS / "chelsea.png"


@pytest.fixture
async def box() -> AsyncGenerator[Sandbox]:
    """A sandbox on the test's own loop that makes small images."""
    async with Sandbox(long_edge=64) as opened:
        yield opened


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("PHOTA_"):
            monkeypatch.delenv(name)


@pytest.fixture
def workers(phota_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Workers of a cluster without the cluster, whose store is a directory."""
    import ray_workers  # noqa: PLC0415  (with the store's library, which few tests need)

    monkeypatch.setenv("PHOTA_API_KEY", ray_workers.KEY)
    phota_sandbox.long_edge = 16
    made = ray_workers.Workers(phota_sandbox, tmp_path / "store")
    yield made
    made.close()
