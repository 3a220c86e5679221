"""A journal that somebody else has made, as in a folder that was handed on: it leads no image out of its folder."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from anyio import to_thread
from folder_runs import counts, make, run, standing

from phota_async.journal import NAME
from phota_async.sandbox import Fault, Sandbox


def rename(journal: Path, name: str) -> None:
    """Let the journal say that what is paid for belongs there."""
    connection = sqlite3.connect(journal)
    with connection:
        changed = connection.execute("UPDATE files SET name = ?", [name.encode()]).rowcount
    connection.close()
    assert changed == 1


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["../escaped.png", "{elsewhere}/escaped.png", "new/../../escaped.png"])
async def test_a_name_in_a_journal_leads_no_image_out_of_its_folder(
    name: str,
    overwrite: bool,  # noqa: FBT001
    box: Sandbox,
    tmp_path: Path,
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script_downloads(Fault(status=400))
    assert counts(await run(box, source, output)) == {"failed": 1}
    before = standing(tmp_path)
    await to_thread.run_sync(rename, output / NAME, name.format(elsewhere=tmp_path))
    report = await run(box, source, output, overwrite=overwrite)
    assert counts(report) == {"failed": 1}
    assert "leads out of the output folder" in report.failures[0].reason
    assert standing(tmp_path).keys() == before.keys()
    assert box.ledger.charged_images == 1
