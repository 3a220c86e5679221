"""Folder runs: a folder of photos into a folder of enhanced ones, written down so that nothing is bought twice."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from attrs import frozen

from phota_async.batch import Gate, ended
from phota_async.errors import ImageError, JournalError
from phota_async.fetch import Fetcher
from phota_async.files import make_root
from phota_async.folder.brake import Brake
from phota_async.folder.budget import Budget
from phota_async.folder.job import FolderJob
from phota_async.folder.outputs import Outputs, clear_leftovers, try_to_write
from phota_async.folder.purchase import Desk, Enhance
from phota_async.folder.recorder import Recorder
from phota_async.folder.rules import Action, Again
from phota_async.folder.run import FolderRun
from phota_async.folder.shortfalls import Shortfalls
from phota_async.folder.survey import find, read_again, sorted_out
from phota_async.folder.tally import Tally
from phota_async.journal import Journal, items, photos, runs
from phota_async.journal.runs import Run
from phota_async.records import FolderReport
from phota_async.threads import in_thread

__all__ = ["Action", "Enhance", "FolderJob", "FolderMeans", "foresee", "run_folder"]

logger = logging.getLogger("phota_async")


@frozen(kw_only=True, eq=False)
class FolderMeans:
    """What a folder run is made with.

    Attributes:
        enhance: Makes a call.
        gate: What keeps calls from beginning that wait.
        fetcher: Fetches links.
        workers: How many calls are under way at most.
        width: Gives how many may be just now.
    """

    enhance: Enhance
    gate: Gate
    fetcher: Fetcher
    workers: int
    width: Callable[[], int]


async def run_folder(job: FolderJob, means: FolderMeans) -> FolderReport:
    """Enhance a folder.

    Raises:
        ImageError: A source cannot be read, or is the output folder.
        JournalError: Another run writes to the output folder, or its journal cannot be read.
        OSError: The output folder cannot be written to.
    """
    budget = Budget(
        job.price, job.options.num_output_images, subjects=bool(job.options.profile_ids), most=job.max_cost_usd
    )
    tally = Tally(budget, means.width, job.on_event)
    async with _journal(job) as recorder:
        run, tally.total = await recorder.run(lambda journal: _begin(journal, job))
        tally.tell("walked")
        working = _composed(job, means, recorder, run, tally)
        try:
            await working.work(means.workers, job.stop)
        except asyncio.CancelledError:
            message = "stopped at once, with requests in flight"
            recorder.submit(runs.ended(run, complete=False, message=message))
            tally.tell("ended", reason=message)
            raise
        report = tally.report()
        try:
            await recorder.write(runs.ended(run, complete=report.stopped_by is None, message=report.message))
        except (OSError, JournalError) as error:
            logger.warning("the end of the run was not written down: %s", error)
    tally.tell("ended", reason=report.message)
    return report


def _composed(job: FolderJob, means: FolderMeans, recorder: Recorder, run: Run, tally: Tally) -> FolderRun:
    brake = Brake(means.gate, tally)
    outputs = Outputs(recorder.folder, means.fetcher, recorder)
    desk = Desk(
        options=job.options,
        enhance=means.enhance,
        outputs=outputs,
        recorder=recorder,
        run=run,
        again=Again(failed=job.retry_failed, unknown=job.retry_unknown, since=run.since),
        overwrite=job.overwrite,
        budget=tally.budget,
        brake=brake,
        tally=tally,
        shortfalls=Shortfalls(outputs, brake, tally),
        calls=asyncio.Semaphore(means.workers),
    )
    return FolderRun(desk, brake, tally, read_again if job.checksum else sorted_out)


def foresee(job: FolderJob) -> Iterator[tuple[Path, Action]]:
    """Give each photo with what a run would do about it, as far as can be told without reading it. Blocks.

    Nothing is written. What is given as to be sent is the most: a photo that was only renamed is told by its bytes.

    Raises:
        ImageError: A source cannot be read, or is the output folder.
        JournalError: The output folder's journal cannot be read.
    """
    with Journal.scratch(job.output.absolute()) as journal:
        run = _begin_in(journal, job)
        find(journal, job)
        again = Again(failed=job.retry_failed, unknown=job.retry_unknown, since=run.since)
        for page in sorted_out(journal, run, again):
            actions = dict.fromkeys(page.had, Action.SKIP) | {due.row.source: due.action for due in page.due}
            for source in sorted(actions):
                # With checksum it is not known before the bytes are read.
                yield Path(os.fsdecode(source)), Action.SEND if job.checksum else actions[source]


@asynccontextmanager
async def _journal(job: FolderJob) -> AsyncGenerator[Recorder, None]:
    opening = asyncio.create_task(in_thread(_opened, job))
    try:
        await ended(opening)  # whoever cancels: a journal that opens when nobody waits for it would stay open
    except asyncio.CancelledError:
        if opening.exception() is None:
            await ended(asyncio.create_task(in_thread(opening.result().close)))
        raise
    journal = opening.result()
    recorder = Recorder(journal)
    try:
        yield recorder
    finally:
        # What was answered is written down, whoever cancels, and however often.
        await ended(asyncio.create_task(_closed(recorder, journal)))


async def _closed(recorder: Recorder, journal: Journal) -> None:
    await recorder.aclose()
    await in_thread(journal.close)


def _opened(job: FolderJob) -> Journal:
    return Journal.open(make_root(job.output), without_log=job.retry_unknown)


def _begin(journal: Journal, job: FolderJob) -> tuple[Run, int]:
    # A journal may take what its folder does not: nothing is bought that cannot be put anywhere.
    try_to_write(journal.folder)
    clear_leftovers(journal, journal.ask(photos.folders_of_unfinished))
    run = _begin_in(journal, job)
    try:
        return run, find(journal, job)
    except (ImageError, ValueError) as error:
        journal.write([runs.ended(run, complete=False, message=f"could not begin: {error}")])
        raise


def _begin_in(journal: Journal, job: FolderJob) -> Run:
    _, options = journal.write([items.left_by_dead_runs(), items.number_of(job.options.identity())])
    run: Run = journal.write([runs.begun(options, overwrite=job.overwrite, stand_in=job.stand_in)])[0]
    return run
