from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from phota_async import DeadlineExceededError, PhotaClient, RetryPolicy, ServiceUnavailableError
from phota_async.sandbox import Fault, Sandbox


async def test_one_photo_comes_back_enhanced(phota_sandbox: Sandbox, photo: Path) -> None:
    async with PhotaClient("key", base_url=phota_sandbox.url) as phota:
        result = await phota.enhance(photo)
    assert result.images[0].media_type == "image/png"
    assert phota_sandbox.ledger.charged_images == 1


async def test_a_retry_that_waited_too_long_for_its_slot_is_not_started(phota_sandbox: Sandbox, photo: Path) -> None:
    def answered_after(seconds: float) -> Fault:
        return Fault(status=200, body=b'{"images":["aGVsbG8="]}', stall=seconds)

    phota_sandbox.script(answered_after(2.0), Fault(status=503, stall=0.5), answered_after(2.0))
    phota = PhotaClient("key", base_url=phota_sandbox.url, max_concurrency=1, retry=RetryPolicy(initial_wait=0))
    async with phota:
        await phota.enhance(photo)  # no call takes less than this one, as far as the client knows
        refused = asyncio.create_task(phota.enhance(photo, timeout=4.0))
        await asyncio.to_thread(phota_sandbox.ledger.wait, lambda ledger: ledger.in_flight == 1)
        other = asyncio.create_task(phota.enhance(photo))  # it has the only slot when the refused one comes back for it
        with pytest.raises(DeadlineExceededError, match="no time for another attempt") as caught:
            await refused
        await other
    assert caught.value.attempts == 1
    assert not caught.value.outcome_unknown
    assert not caught.value.maybe_charged
    assert isinstance(caught.value.__cause__, ServiceUnavailableError)
    assert len(phota_sandbox.ledger.requests) == 3
