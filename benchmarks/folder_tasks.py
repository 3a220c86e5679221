"""What the folder questions have done, each in a process of its own: ``python -m benchmarks.folder_tasks TASK``."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import aiohttp
from attrs import evolve

from benchmarks.meters import peak_mb
from benchmarks.tasks import Cost, Task, answer, metered
from phota_async import PhotaClient
from phota_async.folder.job import FolderJob
from phota_async.folder.survey import find
from phota_async.journal import Claim, Journal, Key, Row, items, names, photos, runs, walks
from phota_async.journal.runs import Run
from phota_async.models import EnhanceOptions

_PNG = b"\x89PNG\r\n\x1a\n an image"
_OPTIONS = EnhanceOptions(response_mode="urls")


def _url(task: Task) -> str:
    return f"http://127.0.0.1:{task.port}/linked/v1/phota"


async def _run(task: Task) -> Cost:
    """Make a folder run: of photos that are all to be bought, or that all were."""
    async with PhotaClient("key", base_url=_url(task), max_concurrency=task.shape.concurrency, proxy="") as phota:
        with TemporaryDirectory() as place:
            empty = evolve(task, source=place, output=f"{place}/images", shape=evolve(task.shape, calls=0))
            await _one_run(phota, empty)  # what is done once, on first use
            costs: list[Cost] = []
            for _ in range(task.times):
                cost = await _one_run(phota, task)
                costs.append(cost.without(await _one_run(phota, empty)) if task.net else cost)
    return Cost.middle(costs)


async def _one_run(phota: PhotaClient, task: Task) -> Cost:
    run = phota.enhance_folder(task.source, task.output, checksum=task.checksum)
    cost, report = await metered(run, ticks=task.ticks)
    if task.shape.calls not in {report.enhanced, report.skipped} or report.failures or report.not_attempted:
        raise ValueError(f"a photo was not enhanced: {report}")
    return cost


def _prepared(task: Task) -> tuple[Iterator[Path], Path]:
    output = Path(task.output)
    output.mkdir()
    return iter(sorted(Path(task.source).rglob("*.jpg"))), output


async def _plain(task: Task) -> Cost:
    """Do the same with plain aiohttp, as one writes it at first."""
    paths, output = _prepared(task)
    async with aiohttp.ClientSession(headers={"X-API-Key": "key"}) as session:

        async def worker() -> None:
            for path in paths:
                body = {"image": base64.b64encode(path.read_bytes()).decode(), "response_mode": "urls"}
                async with session.post(f"{_url(task)}/enhance", json=body) as response:
                    response.raise_for_status()
                    links = (await response.json())["download_urls"]
                for link in links:
                    async with session.get(link) as response:
                        response.raise_for_status()
                        (output / f"{path.stem}.png").write_bytes(await response.read())

        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(task.shape.concurrency):
                    group.create_task(worker())

        return (await metered(work(), ticks=task.ticks))[0]


# ---- bare loops


def _files(source: str) -> Iterator[str]:
    for root, _, files in os.walk(source):
        for name in files:
            yield os.path.join(root, name)  # noqa: PTH118  (a bare walk makes no Path)


def _hash(path: str) -> None:
    with open(path, "rb") as file:  # noqa: PTH123  (as above)
        hashlib.file_digest(file, "sha256")


def _bare(look: Callable[[str], object], task: Task) -> Cost:
    """Look at each photo, one by one."""
    gc.collect()
    seen, wall, cpu = 0, perf_counter(), process_time()
    for path in _files(task.source):
        look(path)
        seen += 1
    wall, cpu = perf_counter() - wall, process_time() - cpu
    if seen != task.shape.calls:
        raise ValueError(f"{seen} photos were seen, not {task.shape.calls}")
    return Cost(cpu_ms=1000 * cpu, wall_ms=1000 * wall, peak_mb=peak_mb())


# ---- a finished folder, without a server


def _fill(task: Task) -> Cost:
    """Finish a folder without a server, and return what the journal cost: photos go through it as in a run."""
    output, wall, cpu, written = Path(task.output), 0.0, 0.0, 0
    output.mkdir()
    with Journal.open(output) as journal:
        options = journal.write([items.number_of(_OPTIONS.identity())])[0]
        run: Run = journal.write([runs.begun(options, overwrite=False, stand_in=True)])[0]
        find(journal, FolderJob.of(sources=task.source, output=output, options=_OPTIONS))
        rows = itertools.chain.from_iterable(photos.pages(journal, run))
        while some := list(itertools.islice(rows, task.shape.concurrency)):
            seconds, cpu_seconds = _bought(journal, run, some)
            wall, cpu, written = wall + seconds, cpu + cpu_seconds, written + len(some)
        journal.write([runs.ended(run, complete=True, message=None)])
    if written != task.shape.calls:
        raise ValueError(f"{written} photos went through the journal, not {task.shape.calls}")
    return Cost(cpu_ms=1000 * cpu, wall_ms=1000 * wall, peak_mb=peak_mb())


def _bought(journal: Journal, run: Run, rows: list[Row]) -> tuple[float, float]:
    """Write all that a run writes of photos that are under way together; return the seconds of it, wall and CPU."""
    hashes = [hashlib.sha256(Path(os.fsdecode(row.source)).read_bytes()).digest() for row in rows]
    claims = [_claim(row, Key(sha256, run.options)) for row, sha256 in zip(rows, hashes, strict=True)]
    answered = items.Answer(links=("http://127.0.0.1/image.png",), request_id="request", cost_usd=0.12, run=run.number)
    wall, cpu = perf_counter(), process_time()
    journal.write(
        walks.identified(row.source, row.size, row.modified_ns, sha256)
        for row, sha256 in zip(rows, hashes, strict=True)
    )
    reserved = journal.write(names.reserve(journal.folder, claim) for claim in claims)
    journal.write(items.sent(claim.key, claim.source) for claim in claims)
    journal.write(items.answered(claim.key, claim.source, answered) for claim in claims)
    journal.write(names.place(claim, got.names) for claim, got in zip(claims, reserved, strict=True))
    wall, cpu = perf_counter() - wall, process_time() - cpu
    for got in reserved:
        path = journal.folder / got.names[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_PNG)
    return wall, cpu


def _claim(row: Row, key: Key) -> Claim:
    name = PurePath(os.fsdecode(row.name))
    return Claim(source=row.source, name=name, key=key, extension=".png", count=1, overwrite=False)


_ROLES: dict[str, Callable[[Task], Cost]] = {
    "run": lambda task: asyncio.run(_run(task)),
    "plain": lambda task: asyncio.run(_plain(task)),
    "walk": partial(_bare, os.stat),
    "hash": partial(_bare, _hash),
    "fill": _fill,
}


if __name__ == "__main__":
    answer(_ROLES)
