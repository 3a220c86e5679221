"""The command line, ``phota-async``. It needs the extra ``cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what to install for it."""
    try:
        from phota_async.cli.commands import group  # noqa: PLC0415  (click and rich are an extra)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {"click", "rich"}:
            raise
        sys.exit(f"phota-async needs {missing}, which is not installed: pip install 'phota-async[cli]'")
    group(prog_name="phota-async")
