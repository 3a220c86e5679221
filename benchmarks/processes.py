"""The processes of a run: a server for each kind of work, and a driver for each client and round, in turns."""

from __future__ import annotations

import http.client
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from attrs import define, field

from benchmarks.asking import Answer, Circumstances, Figures
from benchmarks.driver import READY, Assignment
from benchmarks.work import Shape

ROOT = Path(__file__).resolve().parent.parent

_DRIVER_SECONDS = 900
_LOOK_SECONDS = 0.02
_JPEG = b"\xff\xd8\xff\xe0"

Course = list[tuple[float, float]]


def compared(
    shape: Shape, clients: Sequence[str], where: Circumstances, *, rounds: int, course: bool = False
) -> Answer:
    """Have each client do the same work, in turns, and return what each measured.

    Args:
        shape: The work.
        clients: Who does it.
        where: The circumstances.
        rounds: How often each does it in a real measurement.
        course: Whether the memory over time of each client's last round is kept.
    """
    shape, present = shape.shortened() if where.quick else shape, where.present(clients)
    photo = where.folder / f"{shape.photo_bytes}.jpg"
    photo.write_bytes(_JPEG + os.urandom(shape.photo_bytes - len(_JPEG)))
    figures: dict[str, list[Figures]] = {client: [] for client in present}
    courses: dict[str, Course] = {}
    with served(shape) as port:
        for number in where.rounds(rounds):
            # Who goes first changes, so that nobody always runs on a warmer machine.
            for client in present if number % 2 == 0 else reversed(present):
                progress(f"round {number + 1}, {client}")
                measured, courses[client] = _round(Assignment(client, shape, port, str(photo)), where.python)
                figures[client].append(measured)
    return Answer(rounds=figures, series=courses if course else {})


def progress(words: str) -> None:
    """Tell whoever waits where things stand."""
    print(f"  {words}", file=sys.stderr, flush=True)


def _round(assignment: Assignment, interpreter: Path) -> tuple[Figures, Course]:
    before, shape = ledger(assignment.port), assignment.shape
    figures, course = _driven(assignment, interpreter)
    after = ledger(assignment.port)
    done = {name: after[name] - before[name] for name in after}
    calls = shape.calls + (not shape.waits)  # the first call, which is not measured
    audit(done, calls, shape)
    if done["fetched"] not in {0, calls * shape.images}:
        raise ValueError(f"the server saw {done['fetched']} downloads of {calls * shape.images} images")
    return {**figures, "server_ms": done["cpu_s"] / calls * 1000}, course


def audit(done: Mapping[str, float], calls: int, shape: Shape) -> None:
    """Hold the server's books against what was to be done, so that no client is quick by leaving work out.

    Raises:
        ValueError: They tell of other work.
    """
    if done["requests"] != calls or done["answers"] != calls or done["received"] < calls * shape.photo_bytes * 4 / 3:
        raise ValueError(f"the server saw other work than {calls} calls: {done}")


def _driven(assignment: Assignment, interpreter: Path) -> tuple[Figures, Course]:
    command: list[str | Path] = [interpreter, "-m", "benchmarks.driver", assignment.to_json()]
    with subprocess.Popen(  # noqa: S603  (our own module)
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  (asked for above)
        lines = iter(process.stdout)
        printed = next(lines, "").strip()
        if printed != READY:
            raise ValueError(f"{assignment.client} did not come to its work; what it said is above")
        with _MemoryCourse(process.pid).recorded() as course:
            told, _ = process.communicate("\n", timeout=_DRIVER_SECONDS)
    if process.returncode:
        raise ValueError(f"{assignment.client} failed; what it said is above")
    return json.loads(told), course


@define
class _MemoryCourse:
    """Looks at another process's resident set, which costs that process nothing."""

    process: int
    _course: Course = field(init=False, factory=Course)
    _over: Event = field(init=False, factory=Event)

    @contextmanager
    def recorded(self) -> Generator[Course, None, None]:
        """Give pairs of seconds and MB, that become more while the block runs."""
        looking = Thread(target=self._look)
        looking.start()
        try:
            yield self._course
        finally:
            self._over.set()
            looking.join()

    def _look(self) -> None:
        begun, page = time.perf_counter(), resource.getpagesize() / 1e6
        statm = Path(f"/proc/{self.process}/statm")
        while not self._over.wait(_LOOK_SECONDS):
            try:
                pages = int(statm.read_text(encoding="ascii").split()[1])
            except (FileNotFoundError, ProcessLookupError):
                return
            if not pages:  # it has ended, and nobody has asked how
                return
            self._course.append((round(time.perf_counter() - begun, 3), round(pages * page, 1)))


def python(*arguments: str, interpreter: Path | str = sys.executable, byte_code: str = "") -> str:
    """Run an interpreter and return what it prints.

    Args:
        *arguments: Those of the command line.
        interpreter: By default this one.
        byte_code: A folder of its own for the byte code; by default the interpreter does as the environment says.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    environment = dict(os.environ)
    if byte_code:
        # Where no byte code may be written, an import would be compiled each time: of the package under test only,
        # because what is installed was compiled by its installer.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = byte_code
    return subprocess.run(  # noqa: S603  (our own modules)
        [interpreter, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_DRIVER_SECONDS,
    ).stdout


@contextmanager
def served(shape: Shape) -> Generator[int, None, None]:
    """Give the port of a server that answers with images, and below ``/linked`` with links to them."""
    with serving(
        "benchmarks.server", images=shape.images, image_bytes=shape.image_bytes, latency=shape.latency
    ) as port:
        yield port


@contextmanager
def serving(module: str, *, interpreter: Path | str = sys.executable, **options: object) -> Generator[int, None, None]:
    """Give the port of a module that serves, and prints it first, until its standard input closes."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    # It ends when its standard input closes, which leaving the block does.
    with subprocess.Popen(  # noqa: S603  (our own module)
        [interpreter, "-m", module, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  (asked for above)
        yield int(process.stdout.readline())


def ledger(port: int, path: str = "/ledger") -> Mapping[str, float]:
    """Return what the server at ``port`` has done."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        done: dict[str, float] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return done
