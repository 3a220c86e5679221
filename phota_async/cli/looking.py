"""What is told without buying anything: a dry run, where a folder stands, its report page."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from attrs import asdict
from rich.console import Console
from rich.markup import escape
from yarl import URL

from phota_async.cli.job import NO_PHOTO, Job, could_not_run, in_words, with_complaint
from phota_async.cli.progress import Words
from phota_async.cli.results import Results, printable
from phota_async.errors import JournalError
from phota_async.folder import Action, FolderJob, foresee
from phota_async.journal.views import records, status
from phota_async.models import EnhanceOptions
from phota_async.records import FolderStatus, PhotoRecord, Price
from phota_async.settings import DEFAULT_BASE_URL
from phota_async.transport.proxies import is_loopback

_SHOWN = 20
_WORDS = {
    Action.SEND: "send",
    Action.FETCH: "fetch",
    Action.SKIP: "skip",
    Action.LEAVE_FAILED: "failed",
    Action.LEAVE_UNKNOWN: "unknown",
}
_FATES = {
    "send": "to be sent",
    "fetch": "paid for already, to be fetched for nothing",
    "skip": "done already",
    "failed": "failed earlier, left alone (--retry-failed)",
    "unknown": "may have been charged, left alone (--retry-unknown)",
}
_STATES = {
    "enhanced": "enhanced",
    "answered": "paid for and not fetched yet: run again within 24 hours, it costs nothing",
    "failed": "failed: --retry-failed sends again what the service refused",
    "unknown": "may have been charged, or were and are lost: --retry-unknown buys them again",
    "not_attempted": "not attempted yet: run again",
}


def dry_run(job: Job, options: EnhanceOptions, console: Console) -> int:
    """List what a run would do, and say the most that it can cost; return the exit code."""
    results, counts = Results(job.as_json), Counter[str]()
    try:
        for source, action in foresee(_folder_job(job, options)):
            word = _WORDS[action]
            counts[word] += 1
            if job.as_json:
                results.facts(source=str(source), status=word)
            elif word in {"send", "fetch"}:
                results.lines(f"{word}\t{printable(str(source))}")
    except (ValueError, JournalError, OSError) as error:
        return could_not_run(console, in_words(error))
    if not counts:
        return could_not_run(console, NO_PHOTO)
    images, price = counts["send"] * options.num_output_images, Price()
    most, least = round(images * price.with_subject, 4), round(images * price.image, 4)
    for word, fate in _FATES.items():
        if counts[word]:
            _say(console, f"{counts[word]} {fate}")
    _say(console, f"{_cost(job, images, most, least)}; nothing was sent")
    if job.as_json:
        told = {word: counts[word] for word in _FATES}
        results.facts(summary={**told, "images": images, "max_cost_usd": most, "min_cost_usd": least})
    return with_complaint(0, results, console)


def _folder_job(job: Job, options: EnhanceOptions) -> FolderJob:
    stand_in = job.sandbox or is_loopback(URL(job.base_url or DEFAULT_BASE_URL).host or "")
    return FolderJob.of(sources=job.sources, output=job.output, options=options, stand_in=stand_in, **job.rules)


def _cost(job: Job, images: int, most: float, least: float) -> str:
    if not images:
        return "there is nothing to buy"
    free = " (the sandbox charges nothing)" if job.sandbox else ""
    limit: float | None = job.rules.get("max_cost_usd")
    stops = f"; --max-cost stops it before {limit:.2f} USD are passed" if limit is not None and limit < most else ""
    known = f"{least:.2f} USD where no known subject is recognised"
    return f"{images} {'image' if images == 1 else 'images'}: at most {most:.2f} USD, {known}{free}{stops}"


def _say(console: Console, text: str) -> None:
    console.print(escape(text), soft_wrap=True, highlight=False)


def show_status(folder: Path, console: Console, *, as_json: bool, everything: bool) -> int:
    """Tell where a folder stands, by its journal; return the exit code."""
    results = Results(as_json)
    try:
        stands = status(folder)
        if as_json:
            for record in _troubled(folder):
                facts = {"status": record.state, "error": record.reason, "request_id": record.request_id}
                results.facts(source=str(record.source), **facts)
            results.facts(summary={**asdict(stands), "spent_usd": round(stands.spent_usd, 4)})
        else:
            results.lines(*_standing(stands))
            results.lines(*_troubles(folder, None if everything else _SHOWN))
    except (JournalError, OSError) as error:
        return could_not_run(console, in_words(error))
    return with_complaint(0, results, console)


def _standing(stands: FolderStatus) -> Iterator[str]:
    for state, words in _STATES.items():
        if count := getattr(stands, state):
            yield f"{count:>7} {words}"
    yield f"{stands.spent_usd:>7.2f} {Words(free=stands.stand_in).currency} spent in all"
    yield _last_run(stands)


def _troubles(folder: Path, most: int | None) -> Iterator[str]:
    troubled = _troubled(folder)
    for record in islice(troubled, most):
        yield printable(f"{record.state}: {record.name}: {record.reason}")
    if next(troubled, None):
        yield "... and more: -v shows all"


def _troubled(folder: Path) -> Iterator[PhotoRecord]:
    return (record for record in records(folder) if record.state in {"failed", "unknown"})


def _last_run(stands: FolderStatus) -> str:
    begun = _moment(stands.begun)
    if stands.running:
        return f"a run is under way, since {begun}"
    if stands.ended is None:
        return f"the last run, of {begun}, was killed or could not begin; run again to go on"
    why = f"; {stands.message}" if stands.message else ""
    return f"the last run went from {begun} to {_moment(stands.ended)}{why}"


def _moment(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def make_report(folder: Path, console: Console) -> int:
    """Write the report page of a folder, and print where it is; return the exit code."""
    from phota_async.report import write_report  # noqa: PLC0415  (Pillow is an extra)

    try:
        path = write_report(folder, records(folder), status(folder))
    except (ImportError, JournalError, OSError) as error:
        return could_not_run(console, f"no report: {in_words(error)}")
    _say(console, f"report: {printable(str(path))}")
    return 0
