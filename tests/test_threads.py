"""The library's own threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from anyio import fail_after, from_thread, to_thread

from phota_async import PhotaClient
from phota_async.sandbox import Sandbox


async def test_handlers_that_hold_every_thread_of_anyios_do_not_keep_a_call_from_its_photo(
    phota_sandbox: Sandbox, photo: Path, tmp_path: Path
) -> None:
    to_thread.current_default_thread_limiter().total_tokens = 1

    async with PhotaClient("key", base_url=phota_sandbox.url) as phota:

        def handler() -> Path:
            result = from_thread.run(phota.enhance, photo)
            return from_thread.run(result.images[0].save, tmp_path / "enhanced.png")

        with fail_after(20):
            assert (await to_thread.run_sync(handler)).is_file()


def test_nothing_is_imported_on_the_loop(phota_sandbox: Sandbox, photo: Path) -> None:
    program = """
import asyncio, sys, threading
from phota_async import PhotaClient

imported = []

def hook(event, given):
    if event == "import" and threading.current_thread() is threading.main_thread():
        imported.append(given[0])

async def main():
    sys.addaudithook(hook)
    async with PhotaClient("key", base_url=sys.argv[1]) as phota:
        await phota.enhance(sys.argv[2])
        result = await phota.enhance(sys.argv[2], response_mode="urls")
        await phota.download(result.download_urls[0])

asyncio.run(main())
print(*imported)
"""
    # In a process of its own, where nothing is loaded yet.
    command = [sys.executable, "-c", program, phota_sandbox.url, str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)  # noqa: S603
    assert done.stdout.split() == []
