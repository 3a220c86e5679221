"""``python -m benchmarks``: every question, in turns with plain aiohttp, as Markdown on standard output."""

from __future__ import annotations

import argparse
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import imports, processes, report
from benchmarks.shapes import QUESTIONS

_IMPORTS = "imports"
_IMPORT_ROUNDS = 15


def main() -> None:
    """Ask what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [question.shape.name for question in QUESTIONS] + [_IMPORTS]
    parser.add_argument("--only", choices=names, action="append", help="ask this alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer calls, one round: a look, not a measurement")
    given = parser.parse_args()
    chosen = given.only or names
    print(f"{_machine()}\n")
    found: list[report.Verdict] = []
    with tempfile.TemporaryDirectory() as folder:
        for question in QUESTIONS:
            if question.shape.name in chosen:
                shape = question.shape.shortened() if given.quick else question.shape
                measured = processes.measure(shape, Path(folder))
                print(
                    report.table(f"{shape.name}: {shape.title}, {shape.calls} calls", measured), end="\n\n", flush=True
                )
                found += report.verdicts(shape.name, question.goals, measured)
    if _IMPORTS in chosen:
        costs = imports.measure(3 if given.quick else _IMPORT_ROUNDS)
        print(report.table(f"{_IMPORTS}: a fresh process", costs), end="\n\n")
        found += report.verdicts(_IMPORTS, imports.GOALS, costs)
    print(report.summary(found))


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("phota-async", "aiohttp", "pybase64"))
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}; {packages}"


if __name__ == "__main__":
    main()
