"""What the sandbox answers to a request: images, links, refusals."""

import hashlib
import io
from typing import Any

import pytest
from PIL import Image
from sandbox_calls import PHOTO, PHOTOS, encoded, photo, post, send

from phota_async.sandbox import Sandbox

ROTATED = 6


async def test_an_image_comes_back_as_base64_with_the_long_edge_asked_for() -> None:
    async with Sandbox(long_edge=64) as box:
        reply = await post(box, output_format="png")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json["download_urls"] == []
    assert reply.json["known_subjects"] == {"counts": {}}
    assert "X-Phota-Deprecation-Date" not in reply.headers
    with reply.image() as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (64, 43))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIC"])
@pytest.mark.parametrize("output_format", ["png", "jpg"])
async def test_every_input_format_is_enhanced_into_every_output_format(kind: str, output_format: str) -> None:
    async with Sandbox(long_edge=32) as box:
        reply = await post(box, image=encoded(photo(kind)), output_format=output_format)
    with reply.image() as image:
        assert image.format == {"png": "PNG", "jpg": "JPEG"}[output_format]


@pytest.mark.parametrize("name", sorted(file.name for file in PHOTOS.glob("*.[jp]*g")))
async def test_real_photos_are_enhanced(name: str) -> None:
    data = (PHOTOS / name).read_bytes()
    async with Sandbox(long_edge=64) as box:
        reply = await post(box, image=encoded(data))
        assert box.ledger.charges == {hashlib.sha256(data).hexdigest(): 1}
    with reply.image() as image:
        assert max(image.size) == 64


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "HEIC"])
async def test_the_exif_orientation_is_obeyed(kind: str) -> None:
    async with Sandbox(long_edge=48) as box:
        reply = await post(box, image=encoded(photo(kind, orientation=ROTATED)))
    with reply.image() as image:
        assert image.size == (32, 48)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
async def test_photos_of_any_colour_mode_are_enhanced(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (9, 3)).save(file, "JPEG" if mode == "CMYK" else "PNG")
    async with Sandbox(long_edge=18) as box:
        reply = await post(box, image=encoded(file.getvalue()))
    with reply.image() as image:
        assert (image.mode, image.size) == ("RGB", (18, 6))


async def test_a_sliver_keeps_at_least_one_pixel() -> None:
    file = io.BytesIO()
    Image.new("RGB", (900, 1)).save(file, "PNG")
    async with Sandbox(long_edge=16) as box:
        reply = await post(box, image=encoded(file.getvalue()))
    with reply.image() as image:
        assert image.size == (16, 1)


async def test_an_answer_of_many_pieces_arrives_whole() -> None:
    async with Sandbox(long_edge=1024) as box:
        reply = await post(box, output_format="png", num_output_images=2)
    assert len(reply.body) > 3 * 2**18
    for place in range(2):
        with reply.image(place) as image:
            image.load()


async def test_several_images_of_one_photo_differ() -> None:
    async with Sandbox(long_edge=32) as box:
        reply = await post(box, num_output_images=4)
    assert len(set(reply.json["images"])) == 4


async def test_links_come_in_place_of_images_when_asked_for() -> None:
    async with Sandbox(long_edge=32) as box:
        reply = await post(box, response_mode="urls", output_format="png", num_output_images=2)
        assert reply.json["images"] == []
        first, second = [await send("GET", url) for url in reply.json["download_urls"]]
    assert first.headers["Content-Type"] == "image/png"
    assert first.body != second.body


async def test_the_default_format_is_jpg_and_its_change_is_announced() -> None:
    async with Sandbox(long_edge=32) as box:
        reply = await post(box)
    assert reply.headers["X-Phota-Deprecation-Date"] == "2026-05-08"
    with reply.image() as image:
        assert image.format == "JPEG"


async def test_a_profile_is_a_known_subject_and_costs_more() -> None:
    async with Sandbox(long_edge=32) as box:
        reply = await post(box, profile_ids=["me", "you"], num_output_images=2)
        assert box.ledger.spent_usd == 0.30
    assert reply.json["known_subjects"] == {"counts": {"me": 1, "you": 1}}


async def test_an_image_count_without_fraction_is_an_integer_as_in_json() -> None:
    async with Sandbox(long_edge=32) as box:
        reply = await post(box, num_output_images=2.0)
    assert len(reply.json["images"]) == 2


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_a_wrong_key_is_401(key: str) -> None:
    async with Sandbox(keys={"right"}) as box:
        reply = await post(box, key=key)
        assert box.ledger.charged_images == 0
    assert (reply.status, list(reply.json)) == (401, ["detail"])


async def test_a_missing_key_is_401_even_if_any_key_would_do() -> None:
    async with Sandbox() as box:
        reply = await send("POST", f"{box.url}/enhance", json={"image": PHOTO})
    assert reply.status == 401


async def test_credits_are_spent_to_the_last_cent_and_then_402_comes() -> None:
    async with Sandbox(long_edge=32, credits=0.36) as box:
        statuses = [(await post(box, num_output_images=count)).status for count in (1, 3, 2, 1)]
        assert (statuses, box.credits, box.ledger.spent_usd) == ([200, 402, 200, 402], 0.0, 0.36)


async def test_a_photo_that_could_not_be_read_costs_nothing() -> None:
    async with Sandbox(credits=1.0) as box:
        reply = await post(box, image=encoded(photo("JPEG")[:400]))
        assert (reply.status, box.credits, box.ledger.charged_images) == (400, 1.0, 0)


@pytest.mark.parametrize(("profile", "code"), [("who", "PROFILE_NOT_FOUND"), ("new", "PROFILE_NOT_READY")])
async def test_profiles_must_exist_and_be_ready(profile: str, code: str) -> None:
    async with Sandbox(profiles={"me": "READY", "new": "IN_PROGRESS"}) as box:
        reply = await post(box, profile_ids=["me", profile])
    assert (reply.status, reply.json["code"]) == (404, code)


async def test_ready_profiles_are_accepted() -> None:
    async with Sandbox(long_edge=32, profiles={"me": "READY"}) as box:
        assert (await post(box, profile_ids=["me"])).status == 200


async def test_moderated_words_are_refused_in_any_case() -> None:
    async with Sandbox(moderated_words=["Forbidden"]) as box:
        reply = await post(box, prompt="a FORBIDDEN thing")
    assert (reply.status, reply.json["code"]) == (400, "CONTENT_MODERATION")
    assert reply.json["request_id"] == reply.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "image",
    [
        "",
        "????",
        "abcde",
        "Zm9v\nZm9v",
        "data:image/png;base64,Zm9v",
        "é" * 8,
        encoded(b"no photo at all"),
        encoded(b"GIF89a" + bytes(20)),
        encoded(photo("PNG")[:200]),
        encoded(photo("HEIC")[:400]),
    ],
)
async def test_what_is_no_photo_is_an_invalid_request(image: str) -> None:
    async with Sandbox() as box:
        reply = await post(box, image=image)
    assert (reply.status, reply.json["code"]) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("changes", "where", "kind"),
    [
        ({"image": 7}, ["body", "image"], "string_type"),
        ({"image": None}, ["body", "image"], "string_type"),
        ({"prompt": 7}, ["body", "prompt"], "string_type"),
        ({"profile_ids": "me"}, ["body", "profile_ids"], "list_type"),
        ({"profile_ids": ["me", 7]}, ["body", "profile_ids", 1], "string_type"),
        ({"num_output_images": 0}, ["body", "num_output_images"], "greater_than_equal"),
        ({"num_output_images": 5}, ["body", "num_output_images"], "less_than_equal"),
        ({"num_output_images": 1.5}, ["body", "num_output_images"], "int_type"),
        ({"num_output_images": True}, ["body", "num_output_images"], "int_type"),
        ({"num_output_images": "1"}, ["body", "num_output_images"], "int_type"),
        ({"output_format": "webp"}, ["body", "output_format"], "literal_error"),
        ({"output_format": None}, ["body", "output_format"], "literal_error"),
        ({"response_mode": ["urls"]}, ["body", "response_mode"], "literal_error"),
    ],
)
async def test_what_breaks_the_schema_is_422(changes: dict[str, Any], where: list[Any], kind: str) -> None:
    async with Sandbox() as box:
        reply = await post(box, **changes)
    assert reply.status == 422
    assert [(found["loc"], found["type"]) for found in reply.json["detail"]] == [(where, kind)]


@pytest.mark.parametrize(
    ("body", "content_type", "where", "kind"),
    [
        (b"", "application/json", ["body"], "missing"),
        (b"{}", "application/json", ["body", "image"], "missing"),
        (b"[]", "application/json", ["body"], "model_attributes_type"),
        (b'{"image": "x"}', "text/plain", ["body"], "model_attributes_type"),
        (b'{"image" "x"}', "application/json", ["body", 9], "json_invalid"),
        (b"\xff", "application/json", ["body", 0], "json_invalid"),
        (b"[" * 100_000, "application/json", ["body", 0], "json_invalid"),
    ],
)
async def test_bodies_that_hold_no_request_are_422(body: bytes, content_type: str, where: list[Any], kind: str) -> None:
    headers = {"X-API-Key": "key", "Content-Type": content_type}
    async with Sandbox() as box:
        reply = await send("POST", f"{box.url}/enhance", data=body, headers=headers)
    assert reply.status == 422
    assert [(found["loc"], found["type"]) for found in reply.json["detail"]] == [(where, kind)]


@pytest.mark.parametrize(
    "body",
    [
        '{"image": "%s"}',
        '{"prompt": "\\"image\\": ", "image" : "%s"}',
        '{"other": {"image": "%s"}, "image": "%s"}',
        '{"image": "%s"}'.replace("image", "\\u0069mage"),
        '{"image": "%s", "image": "%s"}',
    ],
)
async def test_long_images_are_found_wherever_json_may_have_them(body: str) -> None:
    file = io.BytesIO()
    Image.effect_noise((600, 600), 64).save(file, "PNG")
    text = encoded(file.getvalue())
    assert len(text) > 2**18
    for written in (text, text.replace("/", "\\/")):
        async with Sandbox(long_edge=16) as box:
            reply = await send(
                "POST",
                f"{box.url}/enhance",
                data=io.BytesIO(body.replace("%s", written).encode()),
                headers={"X-API-Key": "key", "Content-Type": "application/json"},
            )
            assert box.ledger.requests[0].sha256 == hashlib.sha256(file.getvalue()).hexdigest()
        assert reply.status == 200


async def test_a_long_image_outside_an_object_is_422() -> None:
    body = b'[{"image": "' + b"A" * 2**18 + b'"}]'
    headers = {"X-API-Key": "key", "Content-Type": "application/json"}
    async with Sandbox() as box:
        reply = await send("POST", f"{box.url}/enhance", data=body, headers=headers)
    assert (reply.status, reply.json["detail"][0]["type"]) == (422, "model_attributes_type")


async def test_unknown_fields_are_ignored() -> None:
    async with Sandbox(long_edge=32) as box:
        assert (await post(box, async_=True)).status == 200


async def test_an_image_may_be_a_link_of_the_sandbox_itself() -> None:
    async with Sandbox(long_edge=32) as box:
        (link,) = (await post(box, response_mode="urls")).json["download_urls"]
        stored = await send("GET", link)
        assert (await post(box, image=link)).status == 200
        assert box.ledger.requests[-1].sha256 == hashlib.sha256(stored.body).hexdigest()


async def test_no_other_link_is_fetched() -> None:
    async with Sandbox() as box:
        origin = box.url.removesuffix("/v1/phota")
        links = ["https://photos.example/a.jpg", "HTTP://127.0.0.1:1/a.jpg", f"{origin}/files/a.jpg?expires=9"]
        for link in links:
            reply = await post(box, image=link)
            assert (reply.status, reply.json["code"]) == (400, "INVALID_REQUEST")
            assert "sandbox" in reply.json["detail"]


@pytest.mark.parametrize("path", ["/", "/v1/phota", "/v1/phota/enhance/", "/v1/phota/edit", "/files/"])
async def test_unknown_routes_are_404(path: str) -> None:
    async with Sandbox() as box:
        reply = await send("POST", box.url.removesuffix("/v1/phota") + path)
        assert box.ledger.requests[0].path == path
    assert (reply.status, reply.json["code"]) == (404, "NOT_FOUND")
    assert reply.json["request_id"] == reply.headers["X-Request-Id"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_other_methods_are_405(method: str) -> None:
    async with Sandbox() as box:
        reply = await send(method, f"{box.url}/enhance")
        assert (box.ledger.requests[0].method, box.ledger.requests[0].status) == (method, 405)
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


async def test_a_full_sandbox_answers_503_and_says_when_to_come_back() -> None:
    async with Sandbox(capacity=0, retry_after=7) as box:
        told = await post(box)
        box.retry_after = None
        untold = await post(box)
        assert box.ledger.widest == 0
    assert (told.status, told.json["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert told.headers["Retry-After"] == "7"
    assert (untold.status, untold.headers.get("Retry-After")) == (503, None)


async def test_options_may_change_while_it_runs() -> None:
    async with Sandbox(long_edge=32) as box:
        box.keys = {"other"}
        assert (await post(box)).status == 401
        with pytest.raises(ValueError, match="long_edge"):
            box.long_edge = 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", ""),
        ("port", -1),
        ("port", 65536),
        ("port", True),
        ("keys", "one key"),
        ("keys", [""]),
        ("credits", -0.01),
        ("credits", float("nan")),
        ("profiles", ["me"]),
        ("profiles", {"me": None}),
        ("long_edge", 0),
        ("long_edge", 10.5),
        ("latency", -1),
        ("latency", "1"),
        ("link_lifetime", float("inf")),
        ("capacity", -1),
        ("retry_after", ""),
        ("fault_rate", 1.1),
        ("faults", [None]),
        ("faults", 7),
        ("seed", "x"),
        ("moderated_words", "forbidden"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(field: str, value: object) -> None:
    options: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Sandbox(**options)
