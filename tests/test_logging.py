"""What is logged: metadata, under one name, and for a call that goes well nothing that is not asked for."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest

import phota_async
from phota_async import InvalidRequestError, PhotaClient, RetryPolicy, ServerError
from phota_async.sandbox import Fault, Sandbox

NO_ROOM = Fault(status=503, retry_after=0)


def to(box: Sandbox) -> PhotaClient:
    return PhotaClient("key", base_url=box.url, retry=RetryPolicy(initial_wait=0))


def ours(caplog: pytest.LogCaptureFixture, level: int = logging.DEBUG) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "phota_async" and one.levelno >= level]


def test_all_of_the_package_logs_under_one_name() -> None:
    trees = {path: ast.parse(path.read_text()) for path in Path(phota_async.__file__).parent.rglob("*.py")}
    named = {
        (path.name, *map(ast.unparse, node.args))
        for path, tree in trees.items()
        if "sandbox" not in path.parts
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger")
    }
    assert {name for _, name in named} == {"'phota_async'"}
    assert {"call.py", "retry.py", "post.py"} <= {room for room, _ in named}


async def test_a_call_that_goes_well_logs_one_line_for_who_asks(
    box: Sandbox, photo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "phota_async")
    async with to(box) as phota:
        result = await phota.enhance(photo)
    assert ours(caplog) == [f"a call took {result.elapsed:.1f} s, attempts 1, request {result.request_id}"]
    assert ours(caplog, logging.INFO) == []


async def test_a_retry_is_worth_an_info(box: Sandbox, photo: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "phota_async")
    box.script(NO_ROOM)
    async with to(box) as phota:
        await phota.enhance(photo)
    (line,) = ours(caplog)
    assert line.startswith("attempt 1 failed, next in 0.0 s: 503")


async def test_a_failure_is_told_without_the_services_words(
    box: Sandbox, photo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "phota_async")
    refused = Fault(status=503, code="OF_THE_PROMPT", detail="about the prompt", retry_after=0)
    box.script(refused, Fault(status=400, code="INVALID_REQUEST", detail="about the prompt"))
    async with to(box) as phota:
        with pytest.raises(InvalidRequestError, match="about the prompt") as caught:
            await phota.enhance(photo)
    earlier = caught.value.__cause__
    assert isinstance(earlier, ServerError)
    assert ours(caplog) == [
        f"attempt 1 failed, next in 0.0 s: 503 - {earlier.meaning} (request {earlier.request_id})",
        f"a call ended in InvalidRequestError, attempts 2, request {caught.value.request_id}",
    ]
