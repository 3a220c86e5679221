"""The commands and their options."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import cast

import click
from rich.console import Console

from phota_async.cli.job import Job, could_not_run, run
from phota_async.models import MAX_OUTPUT_IMAGES, OUTPUT_FORMATS, EnhanceOptions
from phota_async.settings import URL_VARIABLE
from phota_async.version import __version__

_ENHANCE_EPILOG = """\b
Examples:
  phota-async enhance photos -o enhanced --sandbox     try it: no key, no cost
  phota-async enhance a.jpg b.heic -o enhanced --prompt "soften the light"
  phota-async enhance photos -o enhanced -n 2 --format jpg -j 32 --json

\b
The key comes from the environment variable PHOTA_API_KEY only.
A photo whose enhanced file is already in the output folder is skipped.
Ctrl-C starts nothing new and lets what is paid for land; a second one stops at once.

\b
Exit codes: 0 all done; 1 could not run; 2 usage; 3 some photos failed;
4 stopped by the account (401, 402, 403); 6 unknown outcomes remain; 130 interrupted.
"""


_SERVING = """serving the sandbox; any key will do, nothing is charged; Ctrl-C ends it
  export PHOTA_API_KEY=sandbox PHOTA_BASE_URL={url}"""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="phota-async")
def group() -> None:
    """Enhance photos with the Phota API, or with a local stand-in of it."""


@group.command(epilog=_ENHANCE_EPILOG)
@click.argument("sources", metavar="SRC...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where they go.")
@click.option("--prompt", help="What to do, in words.")
@click.option("--profile-id", "profile_ids", multiple=True, help="A profile to recognise; may be repeated.")
@click.option("-n", "count", type=click.IntRange(1, MAX_OUTPUT_IMAGES), default=1, help="Images a photo; each is paid.")
@click.option("--format", "output_format", type=click.Choice(OUTPUT_FORMATS), default="png", show_default=True)
@click.option("-j", "jobs", type=click.IntRange(min=1), default=16, show_default=True, help="Calls in flight at most.")
@click.option("--sandbox", is_flag=True, help="Use a local stand-in: no key, no cost.")
@click.option("--base-url", envvar=URL_VARIABLE, help="Where the API is.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines on stdout: one for each photo, then a summary.")
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
    sandbox: bool,
    base_url: str | None,
    as_json: bool,
    verbosity: int,
) -> None:
    """Enhance photos and folders of photos into a folder.

    SRC is a file or a folder; sub-folders are searched too and kept below the output folder.
    """
    console = Console(stderr=True)
    cast("TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")  # a file's name need not be Unicode
    _log_to(console, verbosity)
    try:
        options = EnhanceOptions(
            prompt=prompt, profile_ids=profile_ids, num_output_images=count, output_format=output_format
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    job = Job(
        sources=sources, output=output, options=options, jobs=jobs, sandbox=sandbox, base_url=base_url, as_json=as_json
    )
    raise SystemExit(asyncio.run(run(job, console)))


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


def _log_to(console: Console, verbosity: int) -> None:
    if not verbosity:
        return
    from rich.logging import RichHandler  # noqa: PLC0415  (slow to import, seldom wanted)

    handler = RichHandler(console=console, show_path=False)
    logging.basicConfig(
        level=logging.INFO if verbosity == 1 else logging.DEBUG, format="%(message)s", handlers=[handler]
    )
