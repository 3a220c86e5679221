from __future__ import annotations

from pathlib import Path

from phota_async import PhotaClient
from phota_async.sandbox import Sandbox


async def test_one_photo_comes_back_enhanced(phota_sandbox: Sandbox, photo: Path) -> None:
    async with PhotaClient("key", base_url=phota_sandbox.url) as phota:
        result = await phota.enhance(photo)
    assert result.images[0].media_type == "image/png"
    assert phota_sandbox.ledger.charged_images == 1
