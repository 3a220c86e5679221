"""A FastAPI endpoint beside 32 enhances: what every other visitor of a web backend feels of them."""

from __future__ import annotations

import json
import os

from benchmarks.asking import FLOOR, OURS, Answer, Circumstances, Figures, Goal, Question
from benchmarks.backend_load import Load
from benchmarks.driver import Assignment
from benchmarks.processes import audit, ledger, progress, python, served, serving
from benchmarks.questions.clients import IN_MEMORY
from benchmarks.work import Shape

_IDLE = "idle"
_SECONDS, _PINGS_A_SECOND = 6.0, 100
_SHAPE = Shape(photo_bytes=3_000_000, image_bytes=6_000_000, concurrency=32, latency=2.0, calls=32)
_ROUNDS = 3
_REAL_SECONDS = 55  # what the service takes for one enhance
_JPEG = b"\xff\xd8\xff\xe0"


def _ask(where: Circumstances) -> Answer:
    if "a web backend" in where.missing:
        return Answer(rounds={})
    clients = [_IDLE, *where.present(IN_MEMORY)]
    figures: dict[str, list[Figures]] = {client: [] for client in clients}
    photo = where.folder / "backend.jpg"
    photo.write_bytes(_JPEG + os.urandom(_SHAPE.photo_bytes - len(_JPEG)))
    with served(_SHAPE) as port:
        for number in where.rounds(_ROUNDS):
            # Who goes first changes, so that nobody always runs on a warmer machine.
            for client in clients if number % 2 == 0 else reversed(clients):
                progress(f"round {number + 1}, {client}")
                # The idle backend is the same process with the same client, which nobody asks.
                assignment = Assignment(OURS if client == _IDLE else client, _SHAPE, port, str(photo))
                figures[client].append(_round(assignment, where, idle=client == _IDLE))
    return Answer(rounds=figures)


def _round(assignment: Assignment, where: Circumstances, *, idle: bool) -> Figures:
    before, shape = ledger(assignment.port), assignment.shape
    with serving("benchmarks.backend_app", interpreter=where.python, assignment=assignment.to_json()) as port:
        load = Load(
            port=port,
            enhances=0 if idle else shape.concurrency,
            images=[shape.image_bytes] * shape.images,
            spread=shape.latency,
            seconds=_SECONDS / 4 if where.quick else _SECONDS,
            pings=_PINGS_A_SECOND,
        )
        told = python("-m", "benchmarks.backend_load", load.to_json(), interpreter=where.python)
    met: dict[str, float] = json.loads(told)
    after = ledger(assignment.port)
    done = {name: after[name] - before[name] for name in after}
    calls, cpu = int(met.pop("enhances")), met.pop("cpu_s")
    audit(done, calls, shape)
    if idle:
        return met
    return {**met, "cpu_ms": cpu / calls * 1000, "server_ms": done["cpu_s"] / calls * 1000}


QUESTION = Question(
    name="backend",
    title=f"a FastAPI endpoint beside 32 enhances, 3 MB in, 6 MB out, answered after {_SHAPE.latency:g} s",
    ask=_ask,
    goals=(
        Goal(figure="ping_p99_ms", limit=2.0, beside=_IDLE),
        Goal(figure="ping_p99_ms", limit=1.2, beside=FLOOR),
    ),
    about="A FastAPI app in uvicorn, on asyncio's own loop, has one client for as long as it lives. A load process"
    f" keeps {_SHAPE.concurrency} enhances in flight there, begun one by one, and sends {_PINGS_A_SECOND} pings a"
    f" second for {_SECONDS:g} s. Each ping is timed from the moment it was due, so what the load itself came late with"
    " counts as well; it has a column of its own. `idle` is the same backend, asked for no enhance. Load, backend and"
    f" image server share the machine's cores. A real enhance takes {_REAL_SECONDS} s: so many in flight keep a backend"
    f" {_REAL_SECONDS / _SHAPE.latency:.0f} times busier here than in life, and a client that cannot keep up makes"
    " fewer of them a second. The CPU of a call holds the pings' share.",
)
