"""The library when its caller asks for what peers do unasked: to buy again what may be paid for and did not arrive."""

from __future__ import annotations

from functools import partial

from benchmarks.clients import phota_async
from phota_async import RetryPolicy

opened = partial(phota_async.opened, retry=RetryPolicy(retry_unknown=True))
