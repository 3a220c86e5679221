"""What importing each client costs: fresh processes in turns, the interpreter's own start left out."""

from __future__ import annotations

import json
from tempfile import TemporaryDirectory

from benchmarks.asking import FLOOR, OURS, PLAIN, Answer, Circumstances, Figures, Goal, Question
from benchmarks.processes import progress, python

_IMPORTS = {
    FLOOR: "asyncio, pybase64",
    OURS: "phota_async",
    PLAIN: "aiohttp",
    "httpx": "httpx",
    "requests": "requests",
    "openai": "openai",
    "openapi_python_client": "phota_attrs, phota_attrs.models, phota_attrs.api.studio.enhance_v1_phota_enhance_post",
    "openapi_generator": "phota_pydantic",
}
_TIMED = (
    "import json, time; wall, cpu = time.perf_counter(), time.process_time(); import {};"
    "print(json.dumps([1000 * (time.process_time() - cpu), 1000 * (time.perf_counter() - wall)]))"
)


def _ask(where: Circumstances) -> Answer:
    clients = where.present(tuple(_IMPORTS))
    found: dict[str, list[Figures]] = {client: [] for client in clients}
    # The byte code of all, so that no import is quicker because its installer compiled it.
    with TemporaryDirectory(dir=where.folder) as byte_code:
        progress("writing the byte code")
        for client in clients:
            _imported(client, where, byte_code)
        for number in where.rounds(15):
            progress(f"round {number + 1}")
            for client in clients if number % 2 == 0 else reversed(clients):
                found[client].append(_imported(client, where, byte_code))
    return Answer(rounds=found)


def _imported(client: str, where: Circumstances, byte_code: str) -> Figures:
    timed = _TIMED.format(_IMPORTS[client])
    cpu, wall = json.loads(python("-c", timed, interpreter=where.python, byte_code=byte_code))
    return {"import_cpu_ms": cpu, "import_wall_ms": wall}


QUESTION = Question(
    name="imports",
    title="import in a fresh process, byte code there",
    ask=_ask,
    goals=(
        Goal(figure="import_cpu_ms", limit=1.25, beside=PLAIN),
        Goal(figure="import_wall_ms", limit=1.25, beside=PLAIN),
    ),
    about="What a program imports that makes a call with it; the interpreter's own start is left out, and so is what"
    " phota_async loads in a thread when a client opens (cattrs and tenacity).",
)
