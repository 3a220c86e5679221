"""``python -m benchmarks``: every question, each client in turns; Markdown on standard output, data in a folder."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import peers, plots, report, results
from benchmarks.asking import Circumstances
from benchmarks.processes import ROOT, progress
from benchmarks.questions import QUESTIONS

_NAMES = [question.name for question in QUESTIONS]


def main() -> None:
    """Ask what the command line names."""
    given = _parser().parse_args()
    if given.show:
        print(report.whole(json.loads(given.show.read_text(encoding="utf-8"))), end="")
        return
    try:
        interpreter, missing = peers.without() if given.no_peers else peers.ready()
    except peers.PeersError as error:
        sys.exit(f"benchmarks: {error}")
    found: list[results.Result] = []
    with tempfile.TemporaryDirectory() as folder:
        where = Circumstances(quick=given.quick, folder=Path(folder), python=interpreter, missing=missing)
        for question in QUESTIONS:
            if question.name in (given.only or _NAMES):
                progress(f"{question.name}: {question.title}")
                found.append(results.result(question, question.ask(where)))
                print(report.question(found[-1]), end="\n\n", flush=True)
                # After each: a later one that fails must not cost what was measured.
                _keep(results.run(found, peers.versions(interpreter), missing, quick=given.quick), given.out)
    print(report.goals(found))


def _keep(run: dict[str, Any], folder: Path) -> None:
    """Write a run as data, as a page, and as pictures where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(results.written(run), encoding="utf-8")
    (folder / "results.md").write_text(report.whole(run), encoding="utf-8")
    progress(f"written to {folder}: " + ", ".join(["results.json", "results.md", *plots.drawn(run, folder)]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round with fewer calls: a look, not a measurement")
    parser.add_argument("--only", choices=_NAMES, action="append", help="ask this alone; may be repeated")
    parser.add_argument("--no-peers", action="store_true", help="only the clients that this environment has")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "benchmarks", help="a folder for data and pictures")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the page of an earlier run's data, and end")
    return parser


if __name__ == "__main__":
    main()
