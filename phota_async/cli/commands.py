"""The commands and their options."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class
from rich.console import Console

from phota_async.cli import looking
from phota_async.cli.job import COULD_NOT_RUN, INTERRUPTED, Job, could_not_run, run
from phota_async.models import MAX_OUTPUT_IMAGES, OUTPUT_FORMATS, EnhanceOptions
from phota_async.records import Paths
from phota_async.settings import URL_VARIABLE
from phota_async.version import __version__

_ENHANCE_EPILOG = """\b
Examples:
  phota-async enhance photos -o enhanced --sandbox      try it: no key, no cost
  phota-async enhance photos -o enhanced --dry-run      what would be sent, and what it can cost
  phota-async enhance photos -o enhanced --max-cost 50 --report
  phota-async enhance a.jpg b.heic -o enhanced --prompt "soften the light" -n 2
  phota-async enhance photos -o enhanced --include "*.jpg" --exclude "raw/*" -j 32
  find photos -type f -newer last -print0 | phota-async enhance --files-from - -o new

\b
The key comes from the environment variable PHOTA_API_KEY only.
Whatever happens (Ctrl-C, a crash, a full disk), run the same command again: it goes on where it
ended. A journal in the output folder remembers what is paid for; it is not bought again unasked.
Ctrl-C starts nothing new and lets what is paid for land; a second one stops at once.

\b
Exit codes: 0 all done; 1 could not run, or a disk took no more; 2 usage; 3 some photos failed;
4 stopped by the account (401, 402, 403); 5 budget reached; 6 unknown outcomes remain;
130 interrupted.
"""

_STATUS_EPILOG = """\b
Examples:
  phota-async status enhanced
  phota-async status enhanced --json
"""

_COMPLETION_EPILOG = """\b
Examples:
  eval "$(phota-async completion bash)"                 in ~/.bashrc
  eval "$(phota-async completion zsh)"                  in ~/.zshrc
  phota-async completion fish > ~/.config/fish/completions/phota-async.fish
"""

_READ_BYTES = 2**16
_SERVING = """serving the sandbox; any key will do, nothing is charged; Ctrl-C ends it
  export PHOTA_API_KEY=sandbox PHOTA_BASE_URL={url}"""


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="phota-async")
def group() -> None:
    """Enhance photos with the Phota API, or with a local stand-in of it."""


@group.command(epilog=_ENHANCE_EPILOG)
@click.argument("sources", metavar="[SRC]...", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the images go; made if missing.",
)
@click.option("--prompt", help="What to do, in words.")
@click.option("--profile-id", "profile_ids", multiple=True, help="A profile to recognise; may be repeated.")
@click.option(
    "-n", "count", type=click.IntRange(1, MAX_OUTPUT_IMAGES), default=1, help="Images for each photo; each is paid for."
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(OUTPUT_FORMATS),
    default="png",
    show_default=True,
    help="Of the images.",
)
@click.option("-j", "jobs", type=click.IntRange(min=1), default=16, show_default=True, help="Calls in flight at most.")
@click.option("--include", multiple=True, metavar="GLOB", help='Only these, such as "*.jpg"; may be repeated.')
@click.option("--exclude", multiple=True, metavar="GLOB", help='Not these, such as "raw/*"; may be repeated.')
@click.option(
    "--files-from",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Read names of photos and folders from a file, or from stdin with -: one a line, or ended by NUL.",
)
@click.option("--dry-run", is_flag=True, help="Send nothing: list what would be sent and the most it can cost.")
@click.option("--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Stop before this run spends more.")
@click.option("--overwrite", is_flag=True, help="Enhance (and pay) again what is done, and replace files.")
@click.option("--retry-failed", is_flag=True, help="Send again what failed earlier.")
@click.option("--retry-unknown", is_flag=True, help="Buy again what may have been charged, or was and is lost.")
@click.option("--checksum", is_flag=True, help="Read every photo again; do not trust size and time of change.")
@click.option("--fail-fast", is_flag=True, help="Start nothing new after the first new failure.")
@click.option(
    "--report", is_flag=True, help="Write report.html into the output folder: before and after, side by side."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines on stdout: one for each photo, then a summary.")
@click.option("--no-progress", is_flag=True, help="Show no progress on stderr.")
@click.option("--sandbox", is_flag=True, help="Use a local stand-in: no key, no cost.")
@click.option("--base-url", envvar=URL_VARIABLE, help="Where the API is, if not at its own address.")
@click.option("-v", "verbosity", count=True, help="Log to stderr; -vv for more.")
def enhance(  # noqa: PLR0913  (one for each option)
    *,
    sources: tuple[Path, ...],
    output: Path,
    prompt: str | None,
    profile_ids: tuple[str, ...],
    count: int,
    output_format: str,
    jobs: int,
    files_from: Path | None,
    dry_run: bool,
    max_cost: float | None,
    fail_fast: bool,
    report: bool,
    as_json: bool,
    no_progress: bool,
    sandbox: bool,
    base_url: str | None,
    verbosity: int,
    **rules: Any,
) -> None:
    """Enhance photos and folders of photos into a folder.

    SRC is a file or a folder; sub-folders are searched too and kept below the output folder.
    """
    console = _console(verbosity)
    if not sources and files_from is None:
        raise click.UsageError("nothing to enhance: give SRC, or --files-from")
    asked = {
        "prompt": prompt,
        "profile_ids": profile_ids,
        "num_output_images": count,
        "output_format": output_format,
    }
    try:
        options = EnhanceOptions(**asked)  # type: ignore[arg-type]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    job = Job(
        # The list is read here and now: Ctrl-C ends the waiting for it.
        sources=chain(sources, Paths(_listed(files_from))),
        output=output,
        jobs=jobs,
        options=asked,
        rules={**rules, "max_cost_usd": max_cost},
        sandbox=sandbox,
        base_url=base_url,
        as_json=as_json,
        progress=not no_progress,
        fail_fast=fail_fast,
        must_find=files_from is None,
    )
    if dry_run:
        raise SystemExit(looking.dry_run(job, options, console))
    code = asyncio.run(run(job, console))
    if report and code not in {COULD_NOT_RUN, INTERRUPTED}:
        code = looking.make_report(output, console) or code
    raise SystemExit(code)


@group.command(epilog=_STATUS_EPILOG)
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one for each trouble, then a summary.")
@click.option("-v", "everything", is_flag=True, help="Show every failure.")
def status(*, folder: Path, as_json: bool, everything: bool) -> None:
    """Tell what is done, spent, failed and why.

    It reads the journal that `enhance` keeps in DIR, also while a run is under way.
    """
    raise SystemExit(looking.show_status(folder, _console(0), as_json=as_json, everything=everything))


@group.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(*, folder: Path) -> None:
    """Write DIR/report.html: before and after.

    Nothing is sent, and the page needs no network. The first photos are inside it, the others are shown from
    DIR/report-files: move both together.
    """
    raise SystemExit(looking.make_report(folder, _console(0)))


@group.command(epilog=_COMPLETION_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print what makes a shell complete phota-async."""
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  (the choices are click's own)
    click.echo(found(group, {}, "phota-async", "_PHOTA_ASYNC_COMPLETE").source())


@group.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True)
@click.option("--latency", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Seconds for each call.")
@click.option("--capacity", type=click.IntRange(min=1), help="More calls than this at once get a 503.")
def sandbox(*, host: str, port: int, latency: float, capacity: int | None) -> None:
    """Serve a local stand-in of the API until Ctrl-C.

    It takes any key, charges nothing, and really enhances photos (contrast and sharpness).
    """
    console = Console(stderr=True)
    try:
        from phota_async.sandbox import Sandbox, serve_forever  # noqa: PLC0415  (Pillow is an extra)
    except ImportError as error:
        raise SystemExit(could_not_run(console, str(error))) from None
    box = Sandbox(host=host, port=port, latency=latency, capacity=capacity)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(serve_forever(box, ready=lambda url: console.print(_SERVING.format(url=url), soft_wrap=True)))
    except OSError as error:
        raise SystemExit(could_not_run(console, f"cannot serve on {host}:{port}: {error.strerror}")) from None


def _console(verbosity: int) -> Console:
    console = Console(stderr=True)
    if reconfigure := getattr(sys.stdout, "reconfigure", None):  # stdout may be closed
        reconfigure(errors="backslashreplace")  # a file's name need not be Unicode
    _log_to(console, verbosity)
    return console


def _listed(file: Path | None) -> Iterator[Path]:
    """Give the names that a file lists."""
    if file is None:
        return
    with click.open_file(os.fspath(file), "rb") as listed:
        rest = listed.read(_READ_BYTES)
        end, waste = (b"\0", b"") if b"\0" in rest else (b"\n", b"\r")
        while block := listed.read(_READ_BYTES):
            *names, rest = (rest + block).split(end)
            yield from _names(names, waste)
        yield from _names(rest.split(end), waste)


def _names(lines: list[bytes], waste: bytes) -> Iterator[Path]:
    return (Path(os.fsdecode(name)) for line in lines if (name := line.rstrip(waste)))


def _log_to(console: Console, verbosity: int) -> None:
    if not verbosity:
        return
    from rich.logging import RichHandler  # noqa: PLC0415  (slow to import, seldom wanted)

    handler = RichHandler(console=console, show_path=False)
    logging.basicConfig(
        level=logging.INFO if verbosity == 1 else logging.DEBUG, format="%(message)s", handlers=[handler]
    )
