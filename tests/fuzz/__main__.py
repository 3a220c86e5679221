"""Fuzz for a while, or one target: `python -m fuzz SECONDS`, `python -m fuzz TARGET [libFuzzer's arguments]`."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_SCRATCH = _HERE.parents[1] / "out" / "fuzz"
_SLOW_SECONDS = 20  # for one input: far beyond what the largest takes
_MEMORY_MIB = 2048
_LONGEST = 1024  # bytes of an input: a mark makes a long run of a few
_PATIENCE_SECONDS = 120  # for a start on a busy machine
_SHOWN_LINES = 60


def fuzz(target: str, arguments: list[str]) -> None:
    """Hand one target to libFuzzer, instrumented as far as coverage is to guide it. It ends the process."""
    atheris: Any = importlib.import_module("atheris")  # it ships no types
    with atheris.instrument_imports(include=["phota_async", "email"]):  # email reads the dates of Retry-After
        importlib.import_module("phota_async.codec.converter")  # which is otherwise loaded late
        targets = importlib.import_module("fuzz.targets")
    # The name of the program is what -merge=1 runs again.
    atheris.Setup([f"{sys.executable} -m fuzz {target}", *arguments], targets.TARGETS[target])
    atheris.Fuzz()


def campaign(seconds: int) -> int:
    """Fuzz every target in turn, from the corpus on; new inputs go to the scratch folder. Return the exit code."""
    targets = sorted(path.name for path in (_HERE / "corpus").iterdir() if path.is_dir())
    return max([_run(target, seconds // len(targets)) for target in targets])


def _run(target: str, seconds: int) -> int:
    new = _SCRATCH / target
    new.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fuzz", target, *_limits(target, seconds), *_inputs(target, new)]
    done = subprocess.run(  # noqa: S603
        command,
        cwd=_HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + _PATIENCE_SECONDS,
        check=False,
    )
    told = done.stdout.splitlines()
    if done.returncode == 0:
        _say(f"{target}: {_executed(told)} inputs in {seconds} s, nothing found")
        return 0
    _say(*told[-_SHOWN_LINES:], "", f"{target}: a finding. Where it is written to stands above; to repeat it:")
    _say(f"  cd tests && ../.venv/bin/python -m fuzz {target} FILE")
    _say(f"Once mended, keep it in tests/fuzz/findings/{target}/, under a name that says what it is.")
    return 1


def _limits(target: str, seconds: int) -> list[str]:
    return [
        f"-max_total_time={seconds}",
        f"-timeout={_SLOW_SECONDS}",
        f"-rss_limit_mb={_MEMORY_MIB}",
        f"-max_len={_LONGEST}",
        f"-artifact_prefix={_SCRATCH}/finding-{target}-",
        f"-dict={_HERE / 'dictionaries' / target}.dict",
        "-print_final_stats=1",
    ]


def _inputs(target: str, new: Path) -> list[str]:
    # What is new goes to the first folder.
    kept = (_HERE / folder / target for folder in ("corpus", "findings"))
    return [str(folder) for folder in (new, *kept) if folder.is_dir()]


def _executed(told: list[str]) -> str:
    return next((line.split()[-1] for line in told if line.startswith("stat::number_of_executed_units")), "?")


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201


if __name__ == "__main__":
    if importlib.util.find_spec("atheris") is None:
        sys.exit("atheris is missing: pip install --group fuzz, on a system for which there is one")
    name, *rest = sys.argv[1:] or ["60"]
    if name.isdigit():
        sys.exit(campaign(int(name)))
    fuzz(name, rest)
