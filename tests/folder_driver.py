"""Folder runs in processes that can be killed; started as a script by `folder_process`, never imported.

Each line of standard input is a job: a process is forked from this one, which has imported everything that a run needs
and has but one thread, so that a trial takes no more time than the run itself. Standard output holds, in JSON lines,
what the run tells and then how its process ended.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import logging
import os
import resource
import select
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, Never

from phota_async import FolderEvent, FolderReport, PhotaClient, PhotaError, RetryPolicy, Timeout

# What is imported on the way otherwise: later there may be no right to read it.
ON_THE_WAY = (
    *("anyio._backends._asyncio", "encodings.idna"),
    *("phota_async.codec.converter", "phota_async.folder", "phota_async.telemetry"),
)

Count = Callable[[str], None]


def tell(line: dict[str, Any]) -> None:
    # Begins with a line of its own: a process that was killed while it told something leaves half of one.
    data = memoryview(f"\n{json.dumps(line)}\n".encode())
    while data:
        data = data[os.write(1, data) :]


# ---- operations on the disk


def counting(job: dict[str, Any]) -> Count:
    """Return what counts operations and does, before the one whose number is asked for, what is asked for."""
    numbers = itertools.count(1)

    def count(operation: str) -> None:
        number = next(numbers)
        if job.get("trace"):
            tell({"operation": number, "what": operation})
        if number == job.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if number == job.get("fill_at"):
            fill()
        if number == job.get("break_at"):
            raise OSError(job["errno"], os.strerror(job["errno"]), operation)

    return count


def fill() -> None:
    """Let no file take anything any more, as if the disk were full; Python ignores the signal that comes along."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.truncate", "sqlite3.connect"}
ASKING = ("BEGIN", "SELECT", *(f"PRAGMA {name}" for name in ("freelist_count", "quick_check", "application", "user_")))


def watch(output: str, count: Count) -> None:
    """Count what changes the disk: files made, linked, renamed, removed, flushed, what SQLite commits."""
    sync, connect = os.fsync, sqlite3.connect

    def counted_sync(descriptor: int) -> None:
        count("os.fsync")
        sync(descriptor)

    def counted_connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)

        def statement(text: str) -> None:
            # Inside a transaction nothing is written before its end.
            if text.startswith("COMMIT") or not (connection.in_transaction or text.startswith(ASKING)):
                count(text)

        connection.set_trace_callback(statement)
        return connection

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and args[2] & WRITING):
            place = str(args[0])
            if output in place:
                count(f"{event} {place}")

    for module, name, counted in ((os, "fsync", counted_sync), (sqlite3, "connect", counted_connect)):
        setattr(module, name, counted)
    sys.addaudithook(hook)


# ---- the run itself


def prepare(job: dict[str, Any]) -> None:
    if "uid" in job:
        os.setgroups([])
        os.setgid(job["uid"])
        os.setuid(job["uid"])
    if "file_limit" in job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"], resource.RLIM_INFINITY))
    if "clock" in job:
        now, shift = time.time, float(job["clock"])
        time.time = lambda: now() + shift
    if {"trace", "kill_at", "fill_at", "break_at"} & job.keys():
        watch(job["output"], counting(job))


def on_event(event: FolderEvent) -> None:
    tell({"event": event.kind, "source": None if event.source is None else str(event.source)})


async def run(job: dict[str, Any]) -> FolderReport:
    client = PhotaClient(
        job["key"],
        base_url=job["url"],
        max_concurrency=job["concurrency"],
        retry=RetryPolicy(initial_wait=0.01, max_wait=0.02),
        timeout=Timeout(attempt=30.0),
    )
    async with client:
        return await client.enhance_folder(job["source"], job["output"], on_event=on_event, **job["options"])


def told(report: FolderReport) -> dict[str, Any]:
    counts = ("enhanced", "skipped", "failed", "unknown", "not_attempted", "spent_usd", "stopped_by", "message")
    return {
        **{name: getattr(report, name) for name in counts},
        "outputs": [str(path) for path in report.outputs],
        "failures": [
            [str(one.source), one.state, one.kind, one.reason, list(one.download_urls)] for one in report.failures
        ],
    }


def child(job: dict[str, Any]) -> Never:
    """Make one run, and leave at once: what the process was forked from must not be torn down twice."""
    status = 1
    try:
        prepare(job)
        tell({"began": os.getpid()})
        tell({"report": told(asyncio.run(run(job)))})
        status = 0
    except KeyboardInterrupt:
        status = 130
    except (PhotaError, OSError) as error:
        tell({"raised": type(error).__name__, "reason": str(error)})
    except BaseException:  # noqa: BLE001  (whatever else it is, it is a bug, and is shown)
        tell({"bug": traceback.format_exc()})
    finally:
        os._exit(status)


def trial(job: dict[str, Any]) -> None:
    alive, held = os.pipe()
    process = os.fork()
    if not process:
        os.close(alive)
        child(job)
    os.close(held)
    # Nobody writes into the pipe: it ends when the process does.
    if "kill_after" in job and not select.select([alive], [], [], job["kill_after"])[0]:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    os.close(alive)
    tell({"ended": os.waitstatus_to_exitcode(status)})


def main() -> None:
    for name in ON_THE_WAY:
        importlib.import_module(name)
    logging.getLogger("phota_async").addHandler(logging.NullHandler())
    # One that is started in the background has this ignored, and asyncio leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        trial(json.loads(line))


if __name__ == "__main__":
    main()
