"""``python -m benchmarks``: every question, in turns with plain aiohttp, as Markdown on standard output."""

from __future__ import annotations

import argparse
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import folder, imports, makespan, processes, report
from benchmarks.shapes import QUESTIONS

_IMPORTS = "imports"
_IMPORT_ROUNDS = 15
_MAKESPAN = "makespan"
_MAKESPAN_ROUNDS = 5


def main() -> None:
    """Ask what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [question.shape.name for question in QUESTIONS] + [_IMPORTS, _MAKESPAN]
    names += [asked.shape.name for asked in folder.QUESTIONS]
    parser.add_argument("--only", choices=names, action="append", help="ask this alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer calls, one round: a look, not a measurement")
    given = parser.parse_args()
    chosen = given.only or names
    print(f"{_machine()}\n")
    found: list[report.Verdict] = []
    with tempfile.TemporaryDirectory() as place:
        for question in QUESTIONS:
            if question.shape.name in chosen:
                shape = question.shape.shortened() if given.quick else question.shape
                measured = processes.measure(shape, Path(place))
                print(
                    report.table(f"{shape.name}: {shape.title}, {shape.calls} calls", measured), end="\n\n", flush=True
                )
                found += report.verdicts(shape.name, question.goals, measured)
    if _IMPORTS in chosen:
        costs = imports.measure(3 if given.quick else _IMPORT_ROUNDS)
        print(report.table(f"{_IMPORTS}: a fresh process", costs), end="\n\n")
        found += report.verdicts(_IMPORTS, imports.GOALS, costs)
    for course in makespan.COURSES if _MAKESPAN in chosen else ():
        name, rounds = f"{_MAKESPAN}, {course.name}", makespan.measure(course, 1 if given.quick else _MAKESPAN_ROUNDS)
        print(report.table(f"{name}: {course.title}, ideally {course.ideal():.1f} s", rounds), end="\n\n", flush=True)
        found += report.verdicts(name, course.goals, rounds)
    for asked in folder.QUESTIONS:
        if asked.shape.name in chosen:
            shape = asked.shape.shortened() if given.quick else asked.shape
            answers = asked.measure(shape)
            print(report.table(f"{shape.name}: {shape.title}, {shape.calls} photos", answers), end="\n\n", flush=True)
            found += report.verdicts(asked.shape.name, asked.goals, answers)
    print(report.summary(found))


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("phota-async", "aiohttp", "pybase64"))
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}; {packages}"


if __name__ == "__main__":
    main()
