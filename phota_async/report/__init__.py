"""The report of a folder run: one page that shows each photo before and after, what it cost, and what went wrong.

Pillow is needed only when a report is written, so it is loaded only then.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from phota_async.records import FolderStatus, PhotoRecord

__all__ = ["write_report"]


def write_report(folder: Path, records: Iterable[PhotoRecord], status: FolderStatus) -> Path:
    """Write ``folder/report.html``, atomically, and return its path; blocks, for minutes when photos are many.

    The first photos are inside the page, those after them in ``folder/report-files``. An earlier report is replaced,
    and thumbnails of photos that have not changed since are used again.

    Raises:
        FileExistsError: ``report.html`` is there and is not a report.
        NotADirectoryError: ``report-files`` is a link or a file.
        ImportError: The extra ``report`` is not installed.
    """
    try:
        from phota_async.report.writing import write  # noqa: PLC0415  (Pillow is an extra)
    except ModuleNotFoundError as error:
        missing = error.name
    else:
        return write(folder, records, status)
    raise ImportError(f"The report needs {missing}, which is not installed: pip install 'phota-async[report]'")
