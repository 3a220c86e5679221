"""The library's own threads."""

from __future__ import annotations

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
