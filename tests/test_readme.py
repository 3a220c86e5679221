"""Every Python block of the README runs, against the sandbox, in a folder that holds what it names."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
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
        "phota.download",
        "enhance_many(",
        "enhance_stream(",
        "enhance_folder(",
        "InsufficientCreditsError",
        "RetryPolicy(",
        "FastAPI(",
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
    names = await run_block(block_with("phota.download"))
    assert (folder / "portrait-enhanced.png").read_bytes() == names["image"].data
    assert phota_sandbox.ledger.charged_images == 1


@pytest.mark.parametrize("call", ["enhance_many(", "enhance_stream("])
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
    await run_block(block_with("InsufficientCreditsError"))
    await run_block(block_with("InsufficientCreditsError"))
    assert capsys.readouterr().out.startswith("time to buy credits\n504 ")


async def test_a_client_takes_the_settings_that_are_shown(phota_sandbox: Sandbox, folder: Path) -> None:
    names = await run_block(block_with("RetryPolicy("))
    async with names["phota"]:
        await names["quick"].enhance(folder / "portrait.jpg")
    assert phota_sandbox.ledger.charged_images == 1


async def test_the_web_backend_answers(phota_sandbox: Sandbox, folder: Path) -> None:
    app = (await run_block(block_with("FastAPI(")))["app"]
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://backend") as browser,
    ):
        good = await browser.post("/enhance", content=(folder / "portrait.jpg").read_bytes())
        bad = await browser.post("/enhance", content=b"no photo")
    assert (good.status_code, good.headers["content-type"]) == (200, "image/png")
    assert (bad.status_code, phota_sandbox.ledger.charged_images) == (415, 1)


async def test_the_sandbox_misbehaves_as_told() -> None:
    with pytest.raises(OutcomeUnknownError) as caught:
        await run_block(block_with("box.script("))
    assert caught.value.attempts == 2


async def test_the_fixture_is_used_as_shown(phota_sandbox: Sandbox) -> None:
    names = await run_block(block_with("def test_my_code"))
    await names["test_my_code"](phota_sandbox)
    assert phota_sandbox.ledger.charged_images == 1
