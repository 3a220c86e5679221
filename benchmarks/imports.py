"""What importing each client costs: fresh processes in turns, the interpreter's own start left out."""

from __future__ import annotations

import json
from tempfile import TemporaryDirectory

from attrs import frozen

from benchmarks.processes import python
from benchmarks.shapes import CLIENTS, Goal

_TIMED = (
    "import json, time; wall, cpu = time.perf_counter(), time.process_time(); import {};"
    "print(json.dumps([1000 * (time.process_time() - cpu), 1000 * (time.perf_counter() - wall)]))"
)

GOALS = (Goal("import_cpu_ms", 1.25), Goal("import_wall_ms", 1.25))


@frozen
class ImportFigures:
    """Milliseconds of one import."""

    import_cpu_ms: float
    import_wall_ms: float


def measure(rounds: int) -> dict[str, list[ImportFigures]]:
    """Return what each import cost, round by round; a first round writes the byte code and is not counted."""
    figures: dict[str, list[ImportFigures]] = {client: [] for client in CLIENTS}
    with TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for client in CLIENTS:
                measured = ImportFigures(*json.loads(python("-c", _TIMED.format(client), byte_code=folder)))
                if number:
                    figures[client].append(measured)
    return figures
