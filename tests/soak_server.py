"""The sandbox of a soak in a process of its own; started as a script by `soak`, never imported.

Its one argument is JSON: ``seed``, ``rate`` (the share of requests that meet a fault) and ``downloads`` (how many of
the links' requests to prepare for). It prints its URL, and then, for each line that it reads, its book since the line
before as one line of JSON. It ends when its standard input does.
"""

from __future__ import annotations

import http.client
import json
import math
import random
import resource
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from phota_async.sandbox import Fault, Ledger, RequestRecord, Sandbox

LONG_EDGE = 32
LATENCY = 0.01
PATIENCE = 40.0
NO_BASE64 = b'{"images": ["!!!!"], "download_urls": [], "known_subjects": {"counts": {}}}'
EMPTY = b'{"images": [], "download_urls": [], "known_subjects": {"counts": {}}}'

# A 500 and a 503 are never charged: that is what the service's documents are taken to say.
FAULTS = (
    *(Fault(status=status, retry_after=wait) for status in (429, 503) for wait in (None, 0, 0.05)),
    *(Fault(status=status) for status in (400, 402, 404, 422, 500, 502, 504)),
    *(Fault(status=status, charged=True) for status in (502, 504)),
    *(Fault(reset=when) for when in ("before", "during", "after", "answer")),
    Fault(reset="after", charged=True),
    *(Fault(cut=size) for size in (0, 20, 900)),
    *(Fault(body=body, charged=True) for body in (b"<html>", NO_BASE64, EMPTY)),
    Fault(headers={"Content-Encoding": "gzip"}),
    Fault(slow=20_000.0),
    *(Fault(stall=seconds, charged=charged) for seconds in (0.2, math.inf) for charged in (False, True)),
)
DOWNLOAD_FAULTS = (
    *(Fault(status=status) for status in (403, 429, 500, 503)),
    *(Fault(reset=when) for when in ("before", "answer")),
    *(Fault(cut=size) for size in (0, 100)),
    Fault(body=b"<html>"),
    Fault(slow=20_000.0),
    *(Fault(stall=seconds) for seconds in (0.2, math.inf)),
)


def quiet(ledger: Ledger) -> bool:
    return ledger.in_flight == 0 and all(record.ended for record in ledger.requests)


def knock(url: str) -> None:
    """Make a request, so that all which were sent before it have been accepted and read."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        connection.request("GET", "/knock", headers={"Connection": "close"})
        connection.getresponse().read()
    finally:
        connection.close()


def row(record: RequestRecord) -> dict[str, Any]:
    spoilt = record.fault is not None and (record.fault.replaces_answer or bool(record.fault.headers))
    return {
        "key": record.key or "",
        "photo": record.sha256,
        "request_id": record.request_id,
        "charged": record.charged_images,
        "delivered": record.delivered and record.status == 200 and not spoilt,
        "fault": record.fault is not None,
    }


def book(box: Sandbox) -> dict[str, Any]:
    """Return what was done since the last time, and forget it; waits until nothing is being done."""
    for _ in range(2):
        knock(box.url)
    ledger = box.ledger
    told = {
        "quiet": ledger.wait(quiet, timeout=PATIENCE),
        "requests": [row(record) for record in ledger.requests if record.key],
        "charged": ledger.charged_images,
        "downloads": [record.path.rpartition("/")[2] for record in ledger.downloads],
        "leaks": len(ledger.keys_on_downloads),
        "rss_mb": int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6,
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
    }
    ledger.reset()
    return told


def main() -> None:
    given = json.loads(sys.argv[1])
    rng = random.Random(given["seed"])  # noqa: S311  (nothing secret)
    drawn = (rng.choice(DOWNLOAD_FAULTS) if rng.random() < given["rate"] else None for _ in range(given["downloads"]))
    with Sandbox(
        long_edge=LONG_EDGE, latency=LATENCY, fault_rate=given["rate"], faults=FAULTS, seed=given["seed"]
    ) as box:
        box.script_downloads(*drawn)
        print(box.url, flush=True)  # noqa: T201  (who started it reads it)
        for _ in sys.stdin:
            print(json.dumps(book(box)), flush=True)  # noqa: T201  (the same)


if __name__ == "__main__":
    main()
