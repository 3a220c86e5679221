"""The processes of a run: one server for each shape, one driver for each client and round, in turns."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.drivers import Assignment
from benchmarks.shapes import CLIENTS, Figures, Shape

ROOT = Path(__file__).resolve().parent.parent

_DRIVER_SECONDS = 600
_JPEG = b"\xff\xd8\xff\xe0"


def measure(shape: Shape, folder: Path) -> dict[str, list[Figures]]:
    """Return what each client measured, round by round."""
    photo = folder / f"{shape.name}.jpg"
    photo.write_bytes(_JPEG + os.urandom(shape.photo_bytes - len(_JPEG)))
    figures: dict[str, list[Figures]] = {client: [] for client in CLIENTS}
    with served(shape) as port:
        for number in range(shape.rounds):
            # Who goes first changes, so that neither always runs on a warmer machine.
            for client in CLIENTS if number % 2 == 0 else reversed(CLIENTS):
                print(f"{shape.name}: round {number + 1} of {shape.rounds}, {client}", file=sys.stderr)
                figures[client].append(_round(Assignment(client, shape, port, str(photo))))
    return figures


def _round(assignment: Assignment) -> Figures:
    before = ledger(assignment.port)
    figures = Figures(**json.loads(python("-m", "benchmarks.drivers", assignment.to_json())))
    done = {name: count - before[name] for name, count in ledger(assignment.port).items()}
    shape = assignment.shape
    calls = shape.calls + (not shape.waits)  # the first call, which is not measured
    if done["requests"] != calls or done["answers"] != calls or done["received"] < calls * shape.photo_bytes * 4 / 3:
        raise ValueError(f"the server saw other work than {calls} calls: {done}")
    return figures


def python(*arguments: str, byte_code: str = "") -> str:
    """Run this interpreter and return what it prints.

    Args:
        *arguments: Those of the command line.
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
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_DRIVER_SECONDS,
    ).stdout


@contextmanager
def served(shape: Shape, *, linked: bool = False) -> Generator[int, None, None]:
    """Give the port of a server that answers with images, or with links to them."""
    arguments = {"--images": shape.images, "--image-bytes": shape.image_bytes, "--latency": shape.latency}
    command = [sys.executable, "-m", "benchmarks.server", *(str(word) for pair in arguments.items() for word in pair)]
    command += ["--linked"] * linked
    # It ends when its standard input closes, which leaving the block does.
    with subprocess.Popen(  # noqa: S603  (our own module)
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  (asked for above)
        yield int(process.stdout.readline())


def ledger(port: int) -> dict[str, float]:
    """Return what the server at ``port`` has done."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/ledger", headers={"Connection": "close"})
        done: dict[str, float] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return done
