"""The values that callers hold: frozen, checked, modest in what they show, whole after pickling."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError
from yarl import URL

from phota_async import (
    BatchResult,
    DownloadError,
    EnhancedImage,
    EnhanceResult,
    ImageError,
    InsufficientCreditsError,
    Outcome,
    RetryDetails,
    RetryPolicy,
    Timeout,
)
from phota_async.models import EnhanceOptions

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 100
LINK = "https://a.example/i.png?signature=secret"
RESULT = EnhanceResult((EnhancedImage(PNG),), (), {"anna": 2}, "r-1", 2, 55.5)
GOOD = Outcome(0, "a.jpg", result=RESULT)
BAD = Outcome(1, "b.jpg", error=ImageError("b.jpg is empty"))
NEVER = Outcome(2, "c.jpg", error=InsufficientCreditsError(402), attempted=False)


# ---- options


def test_options_default_to_what_the_contract_says() -> None:
    options = EnhanceOptions()
    assert (options.prompt, options.profile_ids, options.num_output_images) == (None, (), 1)
    assert (options.output_format, options.response_mode) == ("png", "bytes")


BAD_OPTIONS: dict[str, list[Any]] = {
    "prompt": [1, b"x", ["x"], True],
    "profile_ids": ["abc", b"abc", None, 7, [1], [""], ["a", None], [b"a"]],
    "num_output_images": [0, 5, -1, 1.0, True, "1", None],
    "output_format": ["", "jpeg", "PNG", "webp", None, 1, ["png"]],
    "response_mode": ["", "url", "BYTES", None, 1, {}],
}


@pytest.mark.parametrize("options", [{name: value} for name in BAD_OPTIONS for value in BAD_OPTIONS[name]], ids=repr)
def test_a_bad_option_is_refused_by_its_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        EnhanceOptions(**options)


def test_profile_ids_may_come_in_any_iterable() -> None:
    for ids in (["a", "b"], ("a", "b"), {"a": 1, "b": 2}, iter(["a", "b"])):
        assert EnhanceOptions(profile_ids=ids).profile_ids == ("a", "b")


def test_every_documented_choice_is_accepted() -> None:
    for count in (1, 2, 3, 4):
        assert EnhanceOptions(num_output_images=count).num_output_images == count
    for name in ("png", "jpg"):
        assert EnhanceOptions(output_format=name).output_format == name
    for mode in ("bytes", "urls"):
        assert EnhanceOptions(response_mode=mode).response_mode == mode
    assert EnhanceOptions(prompt="").prompt == ""


# ---- all values


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (EnhanceOptions(), "prompt"),
        (EnhancedImage(PNG), "data"),
        (RESULT, "images"),
        (GOOD, "result"),
        (BatchResult((GOOD,)), "outcomes"),
        (RetryPolicy(), "max_attempts"),
        (Timeout(), "connect"),
        (RetryDetails(1, ImageError("x"), 1.0, 2.0), "wait"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_cannot_be_changed(value: object, name: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, None)
    with pytest.raises((FrozenInstanceError, AttributeError)):
        value.anything = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "value",
    [
        EnhanceOptions(prompt="p", profile_ids=["a"]),
        EnhancedImage(PNG),
        RESULT,
        GOOD,
        RetryPolicy(),
        Timeout(overall=9.0),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_value_survives_pickling(value: object, protocol: int) -> None:
    assert pickle.loads(pickle.dumps(value, protocol)) == value  # noqa: S301


def test_a_batch_with_errors_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(BatchResult((GOOD, BAD, NEVER))))  # noqa: S301
    assert [outcome.index for outcome in copy] == [0, 1, 2]
    assert [str(outcome.error) for outcome in copy] == [str(outcome.error) for outcome in (GOOD, BAD, NEVER)]
    assert copy[0] == GOOD
    assert copy[2].attempted is False


def test_values_can_be_compared_and_put_into_sets() -> None:
    assert EnhancedImage(PNG) == EnhancedImage(bytes(bytearray(PNG)))
    assert len({EnhancedImage(PNG), EnhancedImage(PNG), RESULT, EnhanceOptions(), EnhanceOptions()}) == 3


def test_nothing_shows_bulk_or_links() -> None:
    shown = repr(BatchResult((Outcome(0, PNG, result=RESULT), Outcome(1, bytearray(PNG), result=RESULT))))
    assert "pixels" not in shown
    assert f"<{len(PNG)} bytes>" in shown
    assert "secret" not in repr(EnhanceResult((), (LINK,)))
    assert "<1 signed>" in repr(EnhanceResult((), (LINK,)))
    assert "secret" not in repr(DownloadError("gone", "https://a.example/i.png"))


@pytest.mark.parametrize("source", ["photos/holiday #2.jpg", "what now?.jpg", Path("a#b?.jpg")])
def test_a_path_is_shown_whole(source: str | Path) -> None:
    assert str(source) in repr(Outcome(0, source, result=RESULT))


@pytest.mark.parametrize("source", [LINK, URL(LINK)])
def test_a_link_is_shown_without_its_signature(source: str | URL) -> None:
    shown = repr(Outcome(0, source, result=RESULT))
    assert "https://a.example/i.png" in shown
    assert "secret" not in shown


# ---- images


@pytest.mark.parametrize(
    ("data", "media_type", "extension"),
    [
        (PNG, "image/png", ".png"),
        (b"\xff\xd8\xff\xe0rest", "image/jpeg", ".jpg"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp", ".webp"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "image/heic", ".heic"),
        (b"GIF89a", "application/octet-stream", ".bin"),
        (b"", "application/octet-stream", ".bin"),
    ],
)
def test_an_images_type_is_told_from_its_bytes(data: bytes, media_type: str, extension: str) -> None:
    image = EnhancedImage(data)
    assert (image.media_type, image.extension) == (media_type, extension)


@pytest.mark.parametrize("data", [None, "text", bytearray(b"x"), memoryview(b"x"), 5])
def test_an_image_is_made_of_bytes(data: Any) -> None:
    with pytest.raises(TypeError, match="data"):
        EnhancedImage(data)


async def test_an_image_saves_itself_under_a_name_or_into_a_directory(tmp_path: Path) -> None:
    image = EnhancedImage(PNG)
    named = await image.save(tmp_path / "sub" / "name.any")
    assert (named, named.read_bytes()) == (tmp_path / "sub" / "name.any", PNG)
    into = await image.save(tmp_path)
    assert into.parent == tmp_path
    assert into.suffix == ".png"
    assert into.read_bytes() == PNG
    assert await image.save(str(tmp_path)) == into


# ---- outcomes and batches


@pytest.mark.parametrize("given", [{}, {"result": RESULT, "error": ImageError("x")}])
def test_an_outcome_has_exactly_one_of_result_and_error(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Outcome(0, "a", **given)


def test_an_outcome_says_whether_it_is_good() -> None:
    assert (GOOD.ok, BAD.ok, NEVER.ok) == (True, False, False)


def test_a_batch_is_a_sequence_of_its_outcomes() -> None:
    batch = BatchResult([GOOD, BAD, NEVER])  # any iterable will do
    assert isinstance(batch, Sequence)
    assert len(batch) == 3
    assert (batch[0], batch[-1], batch[1:]) == (GOOD, NEVER, (BAD, NEVER))
    assert list(batch) == [GOOD, BAD, NEVER]
    assert list(reversed(batch)) == [NEVER, BAD, GOOD]
    assert BAD in batch
    assert (batch.index(BAD), batch.count(GOOD)) == (1, 1)
    with pytest.raises(IndexError):
        batch[3]
    assert batch == BatchResult((GOOD, BAD, NEVER))


def test_a_batch_sorts_its_outcomes_into_good_and_bad() -> None:
    batch = BatchResult((GOOD, BAD, NEVER))
    assert batch.succeeded == (GOOD,)
    assert batch.failed == (BAD, NEVER)


def test_the_results_of_a_good_batch_come_in_order() -> None:
    other = EnhanceResult(request_id="r-2")
    batch = BatchResult((GOOD, Outcome(1, "b", result=other)))
    batch.raise_for_failures()
    assert batch.results == (RESULT, other)
    assert BatchResult(()).results == ()


def test_a_batch_with_failures_raises_each_error_once() -> None:
    stopped = [Outcome(number, "x", error=NEVER.error, attempted=False) for number in range(2, 5)]
    batch = BatchResult((GOOD, BAD, *stopped))
    for call in (batch.raise_for_failures, lambda: batch.results):
        with pytest.raises(ExceptionGroup, match="4 of 5 photos were not enhanced") as caught:
            call()
        assert caught.value.exceptions == (BAD.error, NEVER.error)
