"""Who is compared where every client can do the work."""

from __future__ import annotations

from benchmarks.asking import FLOOR, OURS, PLAIN

PEERS = (PLAIN, "httpx", "requests", "openai", "openapi_python_client", "openapi_generator")
IN_MEMORY = (FLOOR, OURS, *PEERS)
EVERY_CLIENT = (FLOOR, OURS, "phota_async_folder", *PEERS)
