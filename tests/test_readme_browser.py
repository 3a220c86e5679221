"""README's JavaScript in a real browser, against each backend."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from app_process import COMMANDS, PHOTO, Way, serving
from browsers import chromium
from playwright.sync_api import FilePayload

from phota_async.sandbox import Fault, Sandbox

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS: list[str] = re.findall(r"^```js\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
FORM = "<form><input type=file name=photos multiple></form>"
PHOTOS = [FilePayload(name=f"{number}.jpg", mimeType="image/jpeg", buffer=PHOTO) for number in range(3)]

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]


@pytest.mark.parametrize("backend", COMMANDS)
def test_a_page_reads_the_events_of_an_album(backend: str, tmp_path: Path) -> None:
    (block,) = BLOCKS
    shown: list[tuple[str, dict[str, Any]]] = []

    def show(name: str, data: dict[str, Any]) -> None:
        shown.append((name, data))

    box = Sandbox(long_edge=64)
    box.script(None, Fault(status=400, code="CONTENT_MODERATION"))
    way = Way(COMMANDS[backend], box, tmp_path / "images")
    with box, serving(way) as app, chromium() as browser, browser.new_page() as page:
        page.route(f"{app.url}/", lambda route: route.fulfill(body=FORM, content_type="text/html"))
        page.goto(app.url)
        page.set_input_files("input", PHOTOS)
        page.expose_function("show", show)  # pyright: ignore[reportUnknownMemberType]
        page.evaluate(f"async () => {{ const form = document.querySelector('form'); {block} }}")
        images = {data["index"]: data["image"] for _, data in shown if "image" in data}
        assert page.request.get(f"{app.url}{images[0]}").body().startswith(b"\x89PNG")
    assert [name for name, _ in shown] == ["album", "photo", "photo", "photo", "done"]
    assert shown[0][1]["photos"] == 3
    assert sorted(images) == [0, 2]
    assert shown[-1][1] == {"enhanced": 2, "failed": 1}
