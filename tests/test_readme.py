"""Every Python block of the README runs, against the sandbox, in a folder that holds what it names."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from phota_async import OutcomeUnknownError, PhotaClient
from phota_async.sandbox import Fault, Sandbox

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def block_with(words: str) -> str:
    (found,) = (block for block in BLOCKS if words in block)
    return found


async def run_block(source: str) -> dict[str, Any]:
    """Run a block as a notebook would: with `await` at its top level."""
    code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, Any] = {"PhotaClient": PhotaClient}
    result = eval(code, names)  # noqa: S307  (our own README)
    if inspect.isawaitable(result):
        await result
    return names


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phota_sandbox: Sandbox) -> Path:
    photos = ROOT / "tests" / "photos"
    shutil.copy(photos / "rocket.jpg", tmp_path / "portrait.jpg")
    (tmp_path / "photos").mkdir()
    for name in ("chelsea.png", "coffee.png"):
        shutil.copy(photos / name, tmp_path / "photos" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTA_API_KEY", "key")
    monkeypatch.setenv("PHOTA_BASE_URL", phota_sandbox.url)
    return tmp_path


def test_every_block_is_tested_here() -> None:
    tested = [
        "asyncio.run(main())",
        'to="portrait-enhanced.png"',
        "enhance_many(",
        "enhance_stream(Path",
        "enhance_folder(",
        "except InsufficientCreditsError",
        "RetryPolicy(",
        "FastAPI(",
        "match error",
        "def while_connected",
        "async def begin",
        "set_tracer_provider(",
        "create_trace_config(",
        "phota_async.ray import",
        "box.script(",
        "def test_my_code",
    ]
    assert [block_with(words) for words in tested] == BLOCKS


async def test_the_first_example(folder: Path, phota_sandbox: Sandbox) -> None:
    # It calls asyncio.run, so it needs a thread without a loop.
    names: dict[str, Any] = {}
    await to_thread.run_sync(exec, compile(block_with("asyncio.run(main())"), "README.md", "exec"), names)
    assert (folder / "portrait-enhanced.png").read_bytes().startswith(b"\x89PNG")
    assert phota_sandbox.ledger.charged_images == 1


async def test_links_are_downloaded(folder: Path, phota_sandbox: Sandbox) -> None:
    names = await run_block(block_with('to="portrait-enhanced.png"'))
    assert (folder / "portrait-enhanced.png").read_bytes() == names["image"].data
    assert phota_sandbox.ledger.charged_images == 1


@pytest.mark.parametrize("call", ["enhance_many(", "enhance_stream(Path"])
async def test_a_folder_is_enhanced(call: str, folder: Path) -> None:
    (folder / "enhanced").mkdir()
    await run_block(block_with(call))
    assert sorted(path.name for path in (folder / "enhanced").iterdir()) == ["0.png", "1.png"]


async def test_a_folder_is_enhanced_into_another(phota_sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    names = await run_block(block_with("enhance_folder("))
    assert names["report"].ok
    assert sorted(path.name for path in names["report"].outputs) == ["chelsea.png", "coffee.png"]
    assert phota_sandbox.ledger.charged_images == 2
    assert "2 0 0 0 0 0.24" in capsys.readouterr().out


async def test_an_error_is_told(phota_sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    phota_sandbox.script(Fault(status=402), Fault(status=504))
    await run_block(block_with("except InsufficientCreditsError"))
    await run_block(block_with("except InsufficientCreditsError"))
    assert capsys.readouterr().out.startswith("time to buy credits\n504 ")


async def test_a_client_takes_the_settings_that_are_shown(phota_sandbox: Sandbox, folder: Path) -> None:
    names = await run_block(block_with("RetryPolicy("))
    async with names["phota"]:
        await names["quick"].enhance(folder / "portrait.jpg")
    assert phota_sandbox.ledger.charged_images == 1


@pytest.mark.parametrize(
    ("words", "app", "indent"),
    [
        ("FastAPI(", "fastapi_app", ""),
        ("match error", "answers", ""),
        ("def while_connected", "visitors", ""),
        ("async def begin", "albums", " " * 4),
    ],
)
def test_what_is_shown_of_a_backend_is_a_part_of_the_one_that_is_tested(words: str, app: str, indent: str) -> None:
    text = (ROOT / "tests" / "apps" / f"{app}.py").read_text()
    # One blank line between definitions is enough in a README.
    assert textwrap.indent(block_with(words), indent) in re.sub(r"\n{3,}", "\n\n", text)


def test_a_program_with_opentelemetry_tells_its_calls(phota_sandbox: Sandbox) -> None:
    setup, calls = block_with("set_tracer_provider("), textwrap.indent(block_with("create_trace_config("), "    ")
    # In a process of its own: what it sets up, it sets up once for all.
    program = (
        f"import asyncio\nfrom phota_async import PhotaClient\n{setup}\nasync def main():\n{calls}\nasyncio.run(main())"
    )
    done = subprocess.run(  # noqa: S603  (our own interpreter and README)
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=50, check=True
    )
    told = [f'"name": "{name}"' for name in ("phota.enhance", "POST", "phota.download", "GET", "phota.client.spend")]
    assert [name for name in told if name not in done.stdout] == []
    assert "signature=" not in done.stdout
    assert phota_sandbox.ledger.charged_images == 1


async def test_the_sandbox_misbehaves_as_told() -> None:
    with pytest.raises(OutcomeUnknownError) as caught:
        await run_block(block_with("box.script("))
    assert caught.value.attempts == 2


async def test_the_fixture_is_used_as_shown(phota_sandbox: Sandbox) -> None:
    names = await run_block(block_with("def test_my_code"))
    await names["test_my_code"](phota_sandbox)
    assert phota_sandbox.ledger.charged_images == 1
