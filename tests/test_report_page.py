"""The report's page and files, read as they lie on the disk: what it says, what it shows, what it leaves alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tracemalloc
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import pillow_heif
import pytest
from attrs import evolve
from PIL import Image, ImageCms

from phota_async.records import FolderStatus, PhotoRecord, State
from phota_async.report import write_report
from phota_async.report.thumbnails import BUDGET, LONG_EDGE

PHOTOS = Path(__file__).parent / "photos"
BEGUN = 1_773_320_000.0
NOTHING = FolderStatus()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "enhanced"
    made.mkdir()
    return made


class Page(HTMLParser):
    """What is on a page: its tags with their attributes, and its words outside style and script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_bytes().decode()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.raw: dict[str, str] = {}
        self._inside = ""
        self.feed(self.source)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in {"style", "script"}:
            self.raw[self._inside] = data
        else:
            self.words.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [found for name, found in self.tags if name == tag and wanted.items() <= found.items()]

    @property
    def images(self) -> list[dict[str, str]]:
        return self.all("img")

    def picture(self, index: int) -> Image.Image:
        """An image that is inside the page."""
        return Image.open(BytesIO(b64decode(self.images[index]["src"].removeprefix("data:image/jpeg;base64,"))))


def photo(path: Path, size: tuple[int, int] = (80, 60), color: str = "teal") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def enhanced(folder: Path, number: int = 0, **changes: Any) -> PhotoRecord:
    record = PhotoRecord(
        source=photo(folder.parent / "photos" / f"{number:04}.jpg"),
        name=f"{number:04}.jpg",
        state="enhanced",
        outputs=(photo(folder / f"{number:04}.png"),),
        request_id=f"req-{number}",
        cost_usd=0.12,
        at=BEGUN + number,
    )
    return evolve(record, **changes)


def without(state: State, reason: str | None = None, number: int = 0, **changes: Any) -> PhotoRecord:
    record = PhotoRecord(source=Path("/nowhere.jpg"), name=f"{number}.jpg", state=state, reason=reason)
    return evolve(record, **changes)


def report(folder: Path, *records: PhotoRecord, status: FolderStatus = NOTHING) -> Page:
    return Page(write_report(folder, iter(records), status))


def beside(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "report-files").iterdir())


def test_a_photo_is_shown_before_and_after_with_what_is_known_of_it(folder: Path) -> None:
    page = report(folder, enhanced(folder))
    assert [image["alt"] for image in page.images] == ["0000.jpg, before", "0000.jpg, after"]
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.images)
    slider = page.all("input", type="range")[0]
    assert slider["aria-label"] == "Before and after: 0000.jpg"
    assert "Enhanced $0.12 request req-0 Full size 0000.png" in page.text
    assert page.all("a", href="./0000.png")
    assert sorted(path.name for path in folder.iterdir()) == ["0000.png", "report.html"]


def test_the_policy_allows_exactly_the_page_s_own_style_and_script(folder: Path) -> None:
    page = report(folder, enhanced(folder))
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    for tag in ("style", "script"):
        digest = b64encode(sha256(page.raw[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:; ")
    assert policy.endswith("; base-uri 'none'; form-action 'none'")
    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]
    assert "http:" not in page.source.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in page.source


def test_totals_spend_and_throughput(folder: Path) -> None:
    records = [enhanced(folder, number) for number in range(3)]
    # One was enhanced by an earlier run.
    records += [enhanced(folder, 3, at=BEGUN - 900), without("not_attempted", at=None)]
    page = report(folder, *records, status=FolderStatus(spent_usd=1234.5, begun=BEGUN, ended=BEGUN + 90))
    assert "Enhanced 4 of 5 photos" in page.text
    assert "Spent, in all runs $1,234.50" in page.text
    assert "Photos a minute 2.0" in page.text
    assert "1 min 30 s" in page.text
    shares = [(bar["data-state"], float(bar["width"])) for bar in page.all("rect")]
    assert shares == [("enhanced", 800.0), ("not_attempted", 200.0)]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "0 s"), (59, "59 s"), (120, "2 min"), (3600, "1 h"), (3600 * 26 + 61, "26 h 1 min")],
)
def test_how_long_it_took(folder: Path, seconds: float, told: str) -> None:
    page = report(folder, enhanced(folder), status=FolderStatus(begun=BEGUN, ended=BEGUN + seconds))
    assert f" · {told} Enhanced" in page.text


@pytest.mark.parametrize(("photos", "told"), [(1, "2.0"), (5, "10"), (9, "18")])
def test_a_rate_has_as_many_digits_as_mean_something(folder: Path, photos: int, told: str) -> None:
    records = [enhanced(folder, number) for number in range(photos)]
    page = report(folder, *records, status=FolderStatus(begun=BEGUN, ended=BEGUN + 30))
    assert f"Photos a minute {told} " in page.text


def test_a_run_that_was_killed_lasted_until_its_last_photo(folder: Path) -> None:
    records = [enhanced(folder, 0, at=BEGUN + 30), enhanced(folder, 1, at=BEGUN + 60)]
    page = report(folder, *records, status=FolderStatus(begun=BEGUN))
    assert "1 min · the run did not come to its end" in page.text
    assert "Photos a minute 2.0" in page.text


def test_a_run_at_work_says_so(folder: Path) -> None:
    page = report(folder, status=FolderStatus(begun=BEGUN, running=True))
    assert "a run is at work now" in page.text
    assert "Photos a minute" not in page.text


def test_what_a_stand_in_made_was_not_charged(folder: Path) -> None:
    page = report(folder, enhanced(folder, 1), status=FolderStatus(spent_usd=0.12, stand_in=True))
    assert "Not charged (local stand-in) $0.12" in page.text


def test_no_photos_at_all(folder: Path) -> None:
    page = report(folder)
    assert "Enhanced 0 of 0 photos Spent, in all runs $0.00" in page.text
    assert page.all("rect") == []
    assert page.all("time") == []
    assert "not enhanced" not in page.text


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("failed", "Failed 1 Not charged. Run the same command again with --retry-failed"),
        ("unknown", "Outcome unknown 1 These may have been charged"),
        (
            "answered",
            "Paid, not fetched 1 Paid for; the images wait to be fetched. Run the same command again",
        ),
        ("not_attempted", "Not attempted 1 Never sent, not charged. Run the same command again"),
    ],
)
def test_what_is_not_enhanced_says_what_it_costs_and_what_to_do(folder: Path, state: State, told: str) -> None:
    page = report(folder, without(state, "it broke"))
    assert "1 photo not enhanced" in page.text
    assert told in page.text
    assert page.all("button", **{"class": "why", "data-state": state})
    assert page.all("li", **{"data-state": state})
    assert page.all("input", name="state", value=state)


def test_reasons_are_counted_whatever_their_request_was(folder: Path) -> None:
    records = [
        without(
            "failed",
            f"429 - too many (request r-{number}, after 5 attempts)",
            number,
            request_id=f"r-{number}",
        )
        for number in range(3)
    ]
    records += [without("failed", "400 - refused (request r-9)", 9, request_id="r-9")]
    page = report(folder, *records)
    assert "429 - too many (after 5 attempts) 3 photos" in page.text
    assert "400 - refused 1 photo " in page.text
    assert "request r-2" in page.text


def test_many_kinds_of_reasons_stay_a_short_list(folder: Path) -> None:
    page = report(folder, *(without("failed", f"reason {number}", number) for number in range(250)))
    assert len(page.all("button", **{"class": "why"})) == 11
    assert "other reasons 50 photos" in page.text
    assert "and 189 more reasons, told with each photo" in page.text


def test_what_stopped_the_run_stands_at_the_top(folder: Path) -> None:
    page = report(folder, enhanced(folder), status=FolderStatus(message="Out of credits <402>: top up, run again."))
    assert page.text.index("Out of credits <402>: top up, run again.") < page.text.index("Photos")


HOSTILE = [
    ("<script>alert(1).jpg", "<script>alert(1).jpg"),
    ("<!-- --> <title>.jpg", "<!-- --> <title>.jpg"),
    ('"><img src=x onerror=alert(1)>.jpg', '"><img src=x onerror=alert(1)>.jpg'),
    ("'&amp;.jpg", "'&amp;.jpg"),
    ("gpj.\u202eexe.jpg", "gpj.\\u202eexe.jpg"),
    ("two\nlines\t\x00\x1b[31m.jpg", "two\\nlines\\t\\x00\\x1b[31m.jpg"),
    ("r\udce4ksm\udcf6rg\xe5s.jpg", "r\\xe4ksm\\xf6rg\xe5s.jpg"),
    ("lone \ud83d.jpg", "lone \\ud83d.jpg"),
    ("line\u2028\u2029.jpg", "line\\u2028\\u2029.jpg"),
    ("at 9.41\u202fAM\xa0.jpg", "at 9.41 AM .jpg"),
    ("\N{WOMAN}\u200d\N{PERSONAL COMPUTER}.jpg", "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}.jpg"),
    ("x" * 251 + ".jpg", "x" * 251 + ".jpg"),
]


@pytest.mark.parametrize(("name", "told"), HOSTILE)
def test_names_ids_and_errors_are_shown_as_text(folder: Path, name: str, told: str) -> None:
    status = FolderStatus(message=name)
    page = report(folder, enhanced(folder, name=name, reason=name, request_id=name), status=status)
    told = told.replace("  ", " ")
    assert page.text.count(told) == 4
    assert page.images[0]["alt"] == f"{told}, before"
    assert len(page.images) == 2
    assert len(page.all("script")) == 1
    assert page.raw["script"].startswith('"use strict"')


def test_a_reason_cannot_end_the_page(folder: Path) -> None:
    reason = "</li></ul></main><script>alert(1)</script><style>*{display:none}</style>"
    page = report(folder, without("failed", reason))
    assert page.text.count(reason) == 2
    assert len(page.all("script")) == len(page.all("style")) == 1


def test_the_folder_s_own_name_and_its_files_are_text_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "<b>&"
    folder.mkdir()
    name = "javascript:alert(1) #?%\udcff<.png"
    page = report(folder, enhanced(folder, outputs=(photo(folder / "plain.png").rename(folder / name),)))
    assert page.text.count("<b>&") == 2
    assert page.all("b") == []
    link = page.all("a")[1]["href"]
    assert link == "./javascript%3Aalert%281%29%20%23%3F%25%FF%3C.png"
    assert (folder / unquote(link, errors="surrogateescape")).exists()


def test_names_below_folders_keep_them(folder: Path) -> None:
    page = report(folder, enhanced(folder, name="2026/may/a.jpg"))
    assert '<span class="dir">2026/may/</span>a.jpg' in page.source


def test_files_elsewhere_are_not_linked(folder: Path, tmp_path: Path) -> None:
    page = report(folder, enhanced(folder, outputs=(photo(tmp_path / "elsewhere.png"),)))
    assert len(page.images) == 2
    assert "elsewhere" not in page.source
    assert str(tmp_path) not in page.source


def test_several_outputs_can_each_be_compared(folder: Path) -> None:
    outputs = tuple(photo(folder / f"0-{number}.png") for number in (1, 2, 3))
    page = report(folder, enhanced(folder, outputs=outputs))
    assert [image["class"] for image in page.images] == ["before", "after on", "after", "after"]
    assert page.images[2]["alt"] == "0000.jpg, after (2 of 3)"
    buttons = [button for button in page.all("button") if "aria-pressed" in button]
    assert [button["aria-pressed"] for button in buttons] == ["true", "false", "false"]


def test_an_output_that_is_gone_leaves_the_others(folder: Path) -> None:
    outputs = tuple(photo(folder / f"0-{number}.png") for number in (1, 2, 3))
    outputs[0].unlink()
    page = report(folder, enhanced(folder, outputs=outputs))
    assert [image["class"] for image in page.images] == ["before", "after on", "after"]
    assert "The enhanced file 1 is no longer there." in page.text
    assert [button["aria-label"] for button in page.all("button") if "aria-pressed" in button] == [
        "Version 2",
        "Version 3",
    ]


def test_a_source_that_is_gone_leaves_the_enhanced_one(folder: Path) -> None:
    record = enhanced(folder)
    record.source.unlink()
    page = report(folder, record)
    assert [image["class"] for image in page.images] == ["after on"]
    assert "The original is no longer there." in page.text
    assert page.all("input", type="range") == []


def test_a_photo_that_failed_shows_its_original(folder: Path) -> None:
    page = report(folder, enhanced(folder, state="failed", outputs=(), reason="refused"))
    assert [image["class"] for image in page.images] == ["before"]
    assert page.all("input", type="range") == []


Maker = Callable[[Path], object]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def jpeg_s_first_bytes(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0" + b"\0" * 900)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def heif(path: Path) -> None:
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), (80, 80, 80))).save(path)  # pyright: ignore[reportUnknownMemberType]


def bomb(path: Path) -> None:
    content = BytesIO()
    Image.new("1", (1, 1)).save(content, "PNG")
    path.write_bytes(content.getvalue().replace(b"\0\0\0\1\0\0\0\1", b"\0\1\0\0\0\1\0\0", 1))


def too_large(path: Path) -> None:
    Image.new("1", (8200, 8200)).save(path, "PNG")


def too_large_heif(path: Path) -> None:
    heif(path)
    # The box that holds the image's size.
    said = b"ispe" + b"\0" * 4 + b"\0\0\0\x40" * 2
    path.write_bytes(path.read_bytes().replace(said, said.replace(b"\0\0\x40", b"\0\x40\0")))


def truncated(path: Path) -> None:
    path.write_bytes((PHOTOS / "coffee.png").read_bytes()[:90_000])


def postscript(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (empty, "cannot be shown"),
        (jpeg_s_first_bytes, "cannot be shown"),
        (truncated, "cannot be shown"),
        (bomb, "cannot be shown"),
        (postscript, "cannot be shown"),
        (too_large, "is too large to be shown here"),
        (too_large_heif, "is too large to be shown here"),
        (os.mkfifo, "is not a file"),
        (Path.mkdir, "is not a file"),
        (link_to_itself, "cannot be shown"),
    ],
)
def test_what_cannot_be_shown_is_told(folder: Path, spoil: Maker, told: str) -> None:
    record = enhanced(folder)
    for path in (record.source, *record.outputs):
        path.unlink()
        spoil(path)
    page = report(folder, record)
    assert page.images == []
    assert "No picture to show" in page.text
    assert f"The original {told}" in page.text
    assert f"The enhanced file {told}" in page.text


def jpeg_turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera maker"
    half = Image.new("RGB", (1200, 800), "red")
    half.paste("blue", (0, 0, 600, 800))
    half.save(path, "JPEG", exif=exif)


def test_photos_stand_upright_and_carry_no_metadata(folder: Path) -> None:
    record = enhanced(folder)
    jpeg_turned(record.source)
    page = report(folder, record)
    before = page.picture(0)
    assert before.size == (427, 640)
    red, _, blue = before.getpixel((200, 60))  # type: ignore[misc]
    assert blue > 200
    assert red < 60
    assert before.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive", "progression"}
    assert b"camera" not in b64decode(page.images[0]["src"].partition(",")[2])


def test_before_and_after_are_of_one_size_also_when_their_shapes_differ(folder: Path) -> None:
    record = enhanced(folder)
    photo(record.source, (300, 200), "white")
    photo(record.outputs[0], (900, 903), "white")
    photo(folder / "b.png", (1801, 1200), "white")
    page = report(folder, evolve(record, outputs=(record.outputs[0], folder / "b.png")))
    assert {(image["width"], image["height"]) for image in page.images} == {("640", "427")}
    before, square, alike = (page.picture(index) for index in range(3))
    assert before.size == square.size == alike.size == (640, 427)
    corners = [image.getpixel((5, 5)) for image in (before, square, alike)]
    assert corners == [(255, 255, 255), (128, 128, 128), (255, 255, 255)]


def transparent(path: Path) -> None:
    Image.new("RGBA", (60, 40), (255, 0, 0, 0)).save(path)


def palette(path: Path) -> None:
    image = Image.new("P", (60, 40), 0)
    image.putpalette([10, 10, 10, 200, 0, 0])
    image.save(path, transparency=0)


def grey_of_16_bits(path: Path) -> None:
    Image.new("I;16", (60, 40), 40_000).save(path)


def with_broken_profile(path: Path) -> None:
    Image.new("RGB", (60, 40), (120, 120, 120)).save(path, icc_profile=b"no profile")


def black_and_white(path: Path) -> None:
    Image.new("1", (60, 40), 1).save(path)


def webp(path: Path) -> None:
    Image.new("RGB", (60, 40), (9, 9, 9)).save(path, "WEBP", lossless=True)


def cmyk(path: Path) -> None:
    Image.new("CMYK", (60, 40), (0, 0, 0, 255)).save(path, "JPEG")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (transparent, 255),
        (palette, 255),
        (grey_of_16_bits, 156),
        (with_broken_profile, 120),
        (cmyk, 0),
        (black_and_white, 255),
        (webp, 9),
        (heif, 80),
    ],
)
def test_every_kind_of_photo_is_shown(folder: Path, make: Maker, expected: int) -> None:
    record = enhanced(folder)
    make(record.source.with_suffix(".png"))
    page = report(folder, evolve(record, source=record.source.with_suffix(".png")))
    pixel = page.picture(0).getpixel((5, 5))
    assert isinstance(pixel, tuple)
    assert pixel == pytest.approx((expected,) * 3, abs=3)


def test_colours_are_those_that_the_photo_s_profile_means(folder: Path) -> None:
    record = enhanced(folder)
    # The profile's red and blue change places, so what is stored as red is meant to be blue.
    srgb = cast("Any", ImageCms.createProfile("sRGB"))  # pyright: ignore[reportUnknownMemberType]
    profile = ImageCms.ImageCmsProfile(srgb).tobytes()
    swapped = profile.replace(b"rXYZ", b"tmp!").replace(b"bXYZ", b"rXYZ").replace(b"tmp!", b"bXYZ")
    Image.new("RGB", (60, 40), "red").save(record.outputs[0], icc_profile=swapped)
    pixel = report(folder, record).picture(1).getpixel((5, 5))
    assert pixel == pytest.approx((0, 0, 255), abs=8)


@pytest.mark.parametrize("size", [(4000, 40), (40, 4000), (5000, 1), (1, 5000)])
def test_extreme_shapes_lie_on_a_mat(folder: Path, size: tuple[int, int]) -> None:
    record = enhanced(folder)
    photo(record.source, size)
    page = report(folder, record)
    ratio = 240 if size[0] > size[1] else 62
    assert page.all("li", **{"class": f"card r{ratio} mat"})
    assert f".r{ratio}{{--ratio:{ratio / 100}}}" in page.raw["style"]


def test_a_photo_costs_the_page_less_than_100_kb_also_if_it_is_all_noise(folder: Path) -> None:
    noise = folder / "noise.png"
    Image.effect_noise((900, 900), 250).convert("RGB").save(noise)
    record = enhanced(folder, source=noise, outputs=(noise,) * 4)
    nothing = write_report(folder, iter([]), NOTHING).stat().st_size
    page = report(folder, record)
    assert (folder / "report.html").stat().st_size - nothing < 100_000
    sizes = [len(b64decode(image["src"].partition(",")[2])) for image in page.images]
    assert 0.5 * BUDGET < sum(sizes) <= BUDGET
    assert 200 < int(page.images[0]["width"]) < LONG_EDGE


def many(folder: Path, count: int = 27) -> list[PhotoRecord]:
    return [enhanced(folder, number) for number in range(count)]


def test_later_photos_come_from_files_beside_the_page(folder: Path) -> None:
    page = report(folder, *many(folder))
    outside = [image for image in page.images if not image["src"].startswith("data:")]
    assert [image["alt"] for image in outside[::2]] == ["0024.jpg, before", "0025.jpg, before", "0026.jpg, before"]
    assert all(image["loading"] == "lazy" for image in outside)
    assert sorted(image["src"] for image in outside) == [f"report-files/{name}" for name in beside(folder)]
    for image in outside:
        with Image.open(folder / image["src"]) as thumbnail:
            assert thumbnail.size == (80, 60)


def test_thumbnails_of_unchanged_photos_are_used_again(folder: Path) -> None:
    records = many(folder)
    last = report(folder, *records).images[-2]["src"]
    kept = folder / "report-files"
    for path in kept.iterdir():
        os.utime(path, (1, 1))
    photo(records[25].outputs[0], (90, 60), "navy")
    (folder / last).write_bytes(b"broken")
    page = report(folder, *records)
    assert sorted(image["src"] for image in page.images[48:]) == [f"report-files/{name}" for name in beside(folder)]
    assert page.images[-1]["width"] == "80"
    again = [path for path in kept.iterdir() if path.stat().st_mtime == 1]
    assert len(again) == 2


def test_a_report_leaves_nothing_stale_and_nothing_else_touched(folder: Path) -> None:
    report(folder, *many(folder))
    own = folder / "report-files" / "notes.txt"
    own.write_text("mine")
    (folder / "report-files" / f".phota-report-{'0' * 16}.partial").write_text("of a run that was killed")
    report(folder, *many(folder, 25))
    assert len(beside(folder)) == 3
    report(folder, *many(folder, 3))
    assert beside(folder) == ["notes.txt"]
    own.unlink()
    report(folder, *many(folder, 3))
    assert not (folder / "report-files").exists()


def test_photos_that_vanished_are_tried_again(folder: Path) -> None:
    records = many(folder, 26)
    records[25].source.unlink()
    report(folder, *records)
    page = report(folder, *records)
    assert page.images[-1]["src"].startswith("report-files/")
    assert "The original is no longer there." in page.text


@pytest.mark.parametrize("aim", ["there", "nowhere"])
def test_nothing_is_written_through_a_link_in_the_folder_s_place(folder: Path, aim: str) -> None:
    (folder.parent / "there").mkdir()
    (folder / "report-files").symlink_to(folder.parent / aim)
    with pytest.raises(NotADirectoryError, match="report-files"):
        report(folder, *many(folder))
    assert list((folder.parent / "there").iterdir()) == []
    assert not (folder / "report.html").exists()


def test_a_file_in_the_folder_s_place_is_left(folder: Path) -> None:
    (folder / "report-files").write_text("mine")
    with pytest.raises(NotADirectoryError, match="report-files"):
        report(folder, *many(folder))


def test_a_link_in_a_thumbnail_s_place_is_replaced_not_followed(folder: Path) -> None:
    records = many(folder)
    report(folder, *records)
    victim = folder.parent / "victim"
    victim.write_text("precious")
    for name in beside(folder):
        (folder / "report-files" / name).unlink()
        (folder / "report-files" / name).symlink_to(victim)
    page = report(folder, *records)
    assert victim.read_text() == "precious"
    assert not [path for path in (folder / "report-files").iterdir() if path.is_symlink()]
    assert len(page.images) == 54


def test_a_report_replaces_a_report_and_no_other_file(folder: Path) -> None:
    report(folder)
    assert "0000.jpg" in report(folder, enhanced(folder)).text
    (folder / "report.html").write_text("<html>my own pages</html>")
    with pytest.raises(FileExistsError, match=r"report\.html was not written by phota-async"):
        report(folder)
    assert (folder / "report.html").read_text() == "<html>my own pages</html>"


@pytest.mark.parametrize("place", [link_to_itself, Path.mkdir, os.mkfifo])
def test_what_is_no_plain_file_is_not_replaced(folder: Path, place: Maker) -> None:
    place(folder / "report.html")
    with pytest.raises(FileExistsError):
        report(folder)


def test_a_report_that_breaks_off_leaves_the_former_one(folder: Path) -> None:
    records = many(folder)

    def breaking() -> Iterator[PhotoRecord]:
        yield from records[:26]
        raise OSError("the journal is gone")

    before = report(folder, *records).source
    with pytest.raises(OSError, match="the journal is gone"):
        write_report(folder, breaking(), NOTHING)
    assert (folder / "report.html").read_bytes().decode() == before
    assert len(beside(folder)) == 6
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".png") == ["report-files", "report.html"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_records(folder: Path) -> None:
    peaks: list[int] = []
    report(folder, without("failed", "refused"))
    for count in (1000, 3000):
        tracemalloc.start()
        write_report(folder, (without("failed", f"r {number}", number) for number in range(count)), NOTHING)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


def test_without_javascript_everything_is_readable(folder: Path) -> None:
    page = report(folder, enhanced(folder), without("failed", "the photo is broken"))
    style = re.sub(r"@media print.*", "", page.raw["style"], flags=re.DOTALL)
    assert ".filter { display: none; }" in style
    assert not re.search(r"^\.(card|pair|after|name|facts|reason)[ {][^}]*display: none", style, re.MULTILINE)


def test_every_control_has_a_name(folder: Path) -> None:
    outputs = tuple(photo(folder / f"0-{number}.png") for number in (1, 2))
    page = report(folder, enhanced(folder, outputs=outputs))
    assert all(image["alt"] for image in page.images)
    assert page.all("html", lang="en")
    assert page.all("form", role="search", **{"aria-label": "Filter the photos"})
    assert page.all("output", **{"aria-live": "polite"})
    assert all("aria-label" in slider for slider in page.all("input", type="range"))


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from pathlib import Path\n"
        "from phota_async.records import FolderStatus\n"
        "from phota_async.report import write_report\n"
        f"write_report(Path({str(tmp_path)!r}), [], FolderStatus())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert "ImportError: The report needs PIL, which is not installed: pip install 'phota-async[report]'" in run.stderr
