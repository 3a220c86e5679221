"""The report in a real browser, opened from the disk as its readers do: sliders, filters, looks, and no way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import define, field
from browsers import chromium
from PIL import Image, ImageEnhance
from playwright.sync_api import Browser, Locator, Page, expect

from phota_async.records import FolderStatus, PhotoRecord, State
from phota_async.report import write_report

PHOTOS = Path(__file__).parent / "photos"
BEGUN = 1_773_320_000.0
REASONS: dict[State, str] = {
    "failed": "400 CONTENT_MODERATION - the photo or the prompt was refused",
    "unknown": "the connection was lost <b>while</b> the answer was awaited (may have been charged)",
    "answered": "the download broke off",
}

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def state_of(number: int) -> State:
    places: dict[int, State] = {3: "failed", 7: "unknown", 11: "answered", 13: "not_attempted"}
    return places.get(number % 50, "enhanced")


def records(folder: Path, count: int) -> Iterator[PhotoRecord]:
    """Photos of several shapes; every fifth has two outputs. Their files are shared to be quick."""
    for name, size in (("wide", (360, 240)), ("tall", (240, 360))):
        with Image.open(PHOTOS / "coffee.png") as photo:
            plain = photo.convert("RGB").resize(size)  # pyright: ignore[reportUnknownMemberType]
        plain.save(folder.parent / f"{name}.jpg")
        for number in (1, 2):
            ImageEnhance.Contrast(plain).enhance(1 + number / 2).save(folder / f"{name}-{number}.png")
    for number in range(count):
        state, name = state_of(number), "tall" if number % 5 == 0 else "wide"
        outputs = tuple(folder / f"{name}-{one}.png" for one in ((1, 2) if number % 5 == 0 else (1,)))
        yield PhotoRecord(
            source=folder.parent / f"{name}.jpg",
            name=f"lisbon/IMG_{number:04}.jpg",
            state=state,
            outputs=outputs if state == "enhanced" else (),
            request_id=f"req_{number:04}",
            cost_usd=0.12 if state in {"enhanced", "answered"} else 0.0,
            reason=REASONS.get(state),
            at=BEGUN + number,
        )


STATUS = FolderStatus(spent_usd=57.6, begun=BEGUN, ended=BEGUN + 600, message="Out of credits: top up, then run again.")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "enhanced"
    folder.mkdir()
    return write_report(folder, records(folder, 60), STATUS)


@define
class Watched:
    """A page, what it asked for, and what its console said."""

    page: Page
    asked: list[str] = field(factory=list[str])
    told: list[str] = field(factory=list[str])


Opener = Callable[..., Watched]


@pytest.fixture
def opened(browser: Browser, path: Path) -> Iterator[Opener]:
    """Open a page; at the end it must have kept to its folder and its console must be silent."""
    pages: list[Watched] = []

    def opener(what: Path = path, **options: Any) -> Watched:
        wanted: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, **options}
        watched = Watched(browser.new_context(**wanted).new_page())
        pages.append(watched)
        watched.page.on("request", lambda request: watched.asked.append(request.url))
        watched.page.on("console", lambda message: watched.told.append(message.text))
        watched.page.on("pageerror", lambda error: watched.told.append(str(error)))
        watched.page.goto(what.as_uri(), wait_until="load")
        return watched

    yield opener
    for watched in pages:
        folder = watched.page.url.partition("report.html")[0]
        assert [url for url in watched.asked if not url.startswith((folder, "data:"))] == []
        assert watched.told == []
        watched.page.context.close()


def cut(card: Locator) -> float:
    """How much of the picture, in per cent, is before."""
    clip: str = card.locator(".after.on").evaluate("image => getComputedStyle(image).clipPath")
    return float(clip.removeprefix("inset(").removesuffix(")").split()[-1].removesuffix("%"))


def first(page: Page) -> Locator:
    return page.locator(".card").first


def test_the_slider_moves_by_keyboard(opened: Opener) -> None:
    card = first(opened().page)
    slider = card.get_by_role("slider", name="Before and after: lisbon/IMG_0000.jpg")
    assert cut(card) == 50
    slider.focus()
    slider.press("ArrowRight")
    assert 50 < cut(card) < 56
    slider.press("Home")
    assert cut(card) == 0
    slider.press("End")
    assert cut(card) == 100
    expect(slider).to_have_attribute("aria-valuetext", "100% before, 0% after")


def test_the_slider_follows_the_pointer(opened: Opener) -> None:
    page = opened().page
    card = first(page)
    card.scroll_into_view_if_needed()
    box = card.locator(".pair").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    for part in (0.4, 0.3, 0.2):
        page.mouse.move(box["x"] + box["width"] * part, middle)
    assert cut(card) == pytest.approx(20, abs=1)
    page.mouse.up()
    page.mouse.click(box["x"] + box["width"] * 0.9, middle)
    assert cut(card) == pytest.approx(90, abs=1)


def test_the_slider_follows_a_finger(opened: Opener) -> None:
    page = opened(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844}).page
    card = first(page)
    card.scroll_into_view_if_needed()
    box = card.locator(".pair").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 3
    devtools = cast("Any", page.context.new_cdp_session(page))

    def touch(kind: str, part: float | None) -> None:
        points = [] if part is None else [{"x": box["x"] + box["width"] * part, "y": middle}]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.5)
    for part in (0.55, 0.6, 0.7, 0.8):
        touch("touchMove", part)
    touch("touchEnd", None)
    assert cut(card) == pytest.approx(80, abs=2)
    page.touchscreen.tap(box["x"] + box["width"] * 0.1, middle)
    assert cut(card) == pytest.approx(10, abs=2)


def test_another_version_can_be_compared(opened: Opener) -> None:
    card = first(opened().page)
    one, two = card.get_by_role("button", name="Version 1"), card.get_by_role("button", name="Version 2")
    expect(card.locator(".after").nth(1)).to_be_hidden()
    two.press("Enter")
    expect(two).to_have_attribute("aria-pressed", "true")
    expect(one).to_have_attribute("aria-pressed", "false")
    expect(card.locator(".after").nth(0)).to_be_hidden()
    expect(card.locator(".after").nth(1)).to_be_visible()


def names(page: Page) -> list[str]:
    return page.locator(".card:not([hidden]) .name").all_text_contents()


def test_photos_are_filtered_by_state(opened: Opener) -> None:
    page = opened().page
    told = page.locator("output")
    expect(told).to_have_text("60 photos")
    page.get_by_role("checkbox", name="Failed").check()
    expect(told).to_have_text("2 of 60 photos")
    assert names(page) == ["lisbon/IMG_0003.jpg", "lisbon/IMG_0053.jpg"]
    page.get_by_role("checkbox", name="Outcome unknown").check()
    expect(told).to_have_text("4 of 60 photos")
    page.get_by_role("button", name="Show all").click()
    expect(told).to_have_text("60 photos")
    assert len(names(page)) == 60


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("img_0042", ["lisbon/IMG_0042.jpg"]),
        ("REQ_0017", ["lisbon/IMG_0017.jpg"]),
        ("  <b>while</b>  the ", ["lisbon/IMG_0007.jpg", "lisbon/IMG_0057.jpg"]),
        ("no such photo", []),
    ],
)
def test_photos_are_found_by_name_reason_and_request(opened: Opener, typed: str, found: list[str]) -> None:
    page = opened().page
    page.get_by_role("searchbox").fill(typed)
    expect(page.locator("output")).to_have_text(f"{len(found)} of 60 photos")
    assert names(page) == found
    assert page.get_by_text("No photo matches.").is_visible() is not bool(found)


def test_a_reason_shows_its_photos(opened: Opener) -> None:
    page = opened().page
    page.get_by_role("button", name="the download broke off").click()
    expect(page.locator("output")).to_have_text("1 of 60 photos")
    assert names(page) == ["lisbon/IMG_0011.jpg"]
    expect(page.get_by_role("checkbox", name="Paid, not fetched")).to_be_checked()


def test_later_photos_are_loaded_when_they_come_near(opened: Opener) -> None:
    watched = opened()
    page, later = watched.page, watched.page.locator(".card").nth(55).locator("img").first
    before = len(watched.asked)
    assert later.evaluate("image => image.naturalWidth") == 0
    later.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=later.element_handle())
    assert len(watched.asked) > before


def test_a_policy_stands_against_what_might_slip_in(opened: Opener) -> None:
    watched = opened()
    page, refused = watched.page, list[str | None]()
    page.on("requestfailed", lambda request: refused.append(request.failure))
    page.evaluate(
        """() => { const image = new Image(); image.src = "https://example.invalid/a.png"; document.body.append(image);
                   const script = document.createElement("script"); script.textContent = "window.slipped = 1";
                   document.body.append(script); document.body.setAttribute("style", "color: red") }"""
    )
    page.wait_for_function("document.images[document.images.length - 1].complete")
    assert page.evaluate("window.slipped") is None
    assert page.evaluate("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
    assert refused == ["csp"]
    assert watched.asked.pop() == "https://example.invalid/a.png"
    assert len([line for line in watched.told if "Content Security Policy" in line]) == 3
    watched.told.clear()


CONTRASTS = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = channels(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT, (node) =>
    node.data.trim() && node.parentElement.checkVisibility() ? NodeFilter.FILTER_ACCEPT : NodeFilter.FILTER_REJECT);
  const found = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const [a, b] = [light(channels(getComputedStyle(element).color)), light(ground(element))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), texts.currentNode.data]);
  }
  return found.sort((one, other) => one[0] - other[0]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(opened: Opener, scheme: str) -> None:
    page = opened(color_scheme=scheme).page
    page.get_by_role("checkbox", name="Failed").check()
    expect(page.locator("output")).to_have_text("2 of 60 photos")
    contrasts: list[tuple[float, str]] = page.evaluate(CONTRASTS)
    assert len(contrasts) > 30
    assert contrasts[0][0] >= 4.5, contrasts[0]
    ground: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(ground.removeprefix("rgb(").split(",")[0]) < 60) is (scheme == "dark")


NAMED = "() => { const it = document.activeElement; return it.ariaLabel ?? (it.labels?.[0] ?? it).textContent }"


def test_every_control_is_reached_by_tab_in_reading_order(opened: Opener) -> None:
    page = opened().page
    reached: list[str] = []
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(NAMED).strip())
    assert reached == [
        *("Skip to the photos", "6 photos not enhanced"),
        *(REASONS["failed"], REASONS["unknown"], REASONS["answered"]),
        *("Enhanced 54", "Failed 2", "Outcome unknown 2", "Paid, not fetched 1", "Not attempted 1"),
        "Find by name, reason or request id",
        *("Before and after: lisbon/IMG_0000.jpg", "Version 1", "Version 2", "tall-1.png", "tall-2.png"),
    ]


def test_the_focus_is_seen(opened: Opener) -> None:
    page = opened().page
    slider = first(page).get_by_role("slider")
    slider.focus()
    slider.press("ArrowLeft")
    outline = first(page).locator(".pair").evaluate("pair => getComputedStyle(pair).outlineStyle")
    assert outline == "solid"


@pytest.mark.parametrize("width", [360, 390, 768, 1920])
def test_no_width_needs_sideways_scrolling(opened: Opener, width: int) -> None:
    page = opened(viewport={"width": width, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = first(page).locator(".pair").bounding_box()
    assert box is not None
    assert box["width"] >= 190


def test_a_row_of_photos_has_one_height(opened: Opener) -> None:
    page = opened().page
    boxes = [pair.bounding_box() for pair in page.locator(".pair").all()[:3]]
    tops = {round(box["y"]) for box in boxes if box}
    heights = [box["height"] for box in boxes if box and round(box["y"]) == min(tops)]
    assert len(heights) > 1
    assert max(heights) - min(heights) < 1


def test_without_javascript_both_pictures_and_the_reasons_are_seen(opened: Opener) -> None:
    page = opened(java_script_enabled=False).page
    expect(first(page).locator("img").nth(0)).to_be_visible()
    expect(first(page).locator("img").nth(2)).to_be_visible()
    expect(page.get_by_role("slider").first).to_be_hidden()
    expect(page.locator(".card").nth(3).get_by_text("the prompt was refused")).to_be_visible()


FILTERING = """async () => {
  const begun = performance.now();
  document.querySelector("[value=failed]").click();
  await new Promise((done) => setTimeout(done, 5));
  await new Promise(requestAnimationFrame);
  await new Promise((done) => setTimeout(done));
  return performance.now() - begun;
}"""


def test_500_photos_stay_usable(opened: Opener, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    # The browser's driver runs a loop in this thread; a report is written beside it, as everywhere.
    with ThreadPoolExecutor(1) as pool:
        path = pool.submit(write_report, folder, records(folder, 500), STATUS).result()
    assert path.stat().st_size < 24 * 100_000 + 500 * 3_000
    watched = opened(path)
    page = watched.page
    assert len(watched.asked) < 30
    assert page.evaluate(FILTERING) < 2000
    expect(page.locator("output")).to_have_text("10 of 500 photos")
    page.get_by_role("button", name="Show all").click()
    page.keyboard.press("End")
    last = page.locator(".card").last
    last.scroll_into_view_if_needed()
    last.get_by_role("slider").press("Home")
    assert cut(last) == 0
    assert len(watched.asked) < 400


def test_thousands_of_photos_are_filtered_at_once(opened: Opener, tmp_path: Path) -> None:
    gone = (PhotoRecord(source=tmp_path / "gone", name=f"{one}.jpg", state=state_of(one)) for one in range(6000))
    with ThreadPoolExecutor(1) as pool:
        path = pool.submit(write_report, tmp_path, gone, STATUS).result()
    page = opened(path).page
    # A step that looks at all photos for each photo took half a minute here.
    assert page.evaluate(FILTERING) < 6000
    expect(page.locator("output")).to_have_text("120 of 6,000 photos")
