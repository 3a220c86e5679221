"""Bodies of a success: JSON of every wrong shape and depth, base64 in every variant. Paid work is handed over."""

from __future__ import annotations

import base64
import json

import pytest
from hostile import Case, run
from raw_server import IMAGE, KEY, OTHER_IMAGE, PHOTO, RawServer, answer, answering, encoded, good_body

from phota_async import EnhanceResult, PhotaClient, ResponseFormatError

ENCODED = encoded(IMAGE)
CODED = ENCODED.encode()
DOCUMENT = good_body()
DEEP = 10_000  # ten times what recursion bears
DEEPEST = 100_000


def body_with(images: str, rest: str = "") -> bytes:
    return f'{{"images":[{images}],"known_subjects":{{"counts":{{}}}}{rest}}}'.encode()


def beside(member: bytes) -> bytes:
    """A document with a whole image behind one more member."""
    return b'{%s,"images":["%s"]}' % (member, CODED)


def nested(opening: bytes, closing: bytes, inside: bytes = b"", *, depth: int = DEEP) -> bytes:
    return opening * depth + inside + closing * depth


ODD: dict[str, bytes] = {
    "plain": DOCUMENT,
    "spread out": json.dumps(json.loads(DOCUMENT), indent=4).encode(),
    "tabs and line breaks": b"\r\n\t " + DOCUMENT.replace(b",", b" ,\r\n\t") + b"\n\n",
    "other order of keys": b'{"known_subjects":{"counts":{}},"download_urls":[],"images":["%s"]}' % CODED,
    "unknown members": body_with(f'"{ENCODED}"', ',"x":{"images":["AAAA"],"y":[1,[2,{}],null,"\\u00e9"]},"z":1e5'),
    "unknown members first": b'{"a":[[[]]],"images2":["no"],"images":["%s"]}' % CODED,
    "an escaped key": body_with(f'"{ENCODED}"').replace(b'"images"', b'"im\\u0061ges"'),
    "images twice": b'{"images":["AAAA"],"images":["%s"]}' % CODED,
    "a wrong one, then images": b'{"images":5,"images":["%s"]}' % CODED,
    "a byte order mark": b"\xef\xbb\xbf" + DOCUMENT,
    "subjects null": beside(b'"known_subjects":null'),
    "subjects absent": b'{"images":["%s"]}' % CODED,
    "subjects a list": beside(b'"known_subjects":["a"]'),
    "counts null": beside(b'"known_subjects":{"counts":null}'),
    "counts odd": beside(b'"known_subjects":{"counts":{"a":1.5,"b":true,"c":"1"}}'),
    "counts not finite": beside(b'"known_subjects":{"counts":{"a":NaN,"b":-Infinity,"c":1e999}}'),
    "counts of a huge number": beside(b'"known_subjects":{"counts":{"a":%s}}' % (b"9" * 30_000)),
    "subjects nested deep": beside(b'"known_subjects":' + nested(b"[", b"]")),
    "subjects nested within the bound": beside(b'"known_subjects":%s%s' % (b"[" * 20_000, b"]" * 20_000)),
    "objects nested deep": beside(b'"known_subjects":' + nested(b'{"counts":', b"}", b"1")),
    "subjects huge": beside(b'"known_subjects":{"counts":{"%s":1}}' % (b"a" * 300_000)),
    "subjects with half a character": beside(b'"known_subjects":{"counts":{"\\ud800":"x"}}'),
    "subjects with control characters": beside(b'"known_subjects":{"counts":{"\\u001b[2J\\n":"x"}}'),
    "links null": beside(b'"download_urls":null'),
    "links odd": beside(b'"download_urls":[1,{}]'),
    "links no list": beside(b'"download_urls":"https://h/x"'),
    "links nested deep": beside(b'"download_urls":' + nested(b"[", b"]")),
    "another member nested deepest": beside(b'"x":' + nested(b"[", b"]", depth=DEEPEST)),
    "another member of deep objects": beside(b'"x":' + nested(b'{"images":', b"}", b"[]")),
    "many members": beside(b",".join(b'"m%d":%d' % (number, number) for number in range(10_000))),
    "a long string": beside(b'"x":"%s"' % (b"\\u00e9" * 100_000)),
    "a long number": beside(b'"x":' + b"1" * 300_000),
    "a long key": beside(b'"%s":1' % (b"k" * 300_000)),
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
async def test_an_odd_answer_with_a_whole_image_hands_the_image_over(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def enhance(phota: PhotaClient, _: RawServer) -> EnhanceResult:
        result = await phota.enhance(PHOTO)
        assert result.known_subjects == {}
        assert result.attempts == 1
        assert result.request_id == "req-1"
        return result

    serve = answering(answer(body, headers={"X-Request-Id": "req-1"}))
    await run(Case(serve=serve, ends=IMAGE), caplog, act=enhance)


async def test_links_in_place_of_images_are_handed_over(caplog: pytest.LogCaptureFixture) -> None:
    links = ["https://cdn.example/a?sig=1&x=/", "https://cdn.example/b"]

    async def enhance(phota: PhotaClient, _: RawServer) -> EnhanceResult:
        result = await phota.enhance(PHOTO)
        assert result.download_urls == tuple(links)
        assert result.known_subjects == {"ann": 2}
        return result

    body = json.dumps({"images": None, "download_urls": links, "known_subjects": {"counts": {"ann": 2}}}).encode()
    serve = answering(answer(body.replace(b"/", b"\\/").replace(b"&", b"\\u0026")))
    await run(Case(serve=serve, ends=()), caplog, act=enhance)


WRONG: dict[str, tuple[bytes, bool]] = {
    # the body, and whether an intact image rides on the error
    "empty": (b"", False),
    "space": (b"  \n", False),
    "HTML": (b"<html><body>502</body></html>", False),
    "a number": (b"12", False),
    "a string": (b'"%s"' % CODED, False),
    "null": (b"null", False),
    "true": (b"true", False),
    "a list": (b'["%s"]' % CODED, False),
    "a list of documents": (b"[%s]" % DOCUMENT, False),
    "an empty object": (b"{}", False),
    "a document in a document": (b'{"data":%s}' % DOCUMENT, False),
    "no images": (b'{"images":[],"known_subjects":{"counts":{}}}', False),
    "images and links empty": (b'{"images":[],"download_urls":[]}', False),
    "images null": (b'{"images":null}', False),
    "images a string": (b'{"images":"%s"}' % CODED, False),
    "images an object": (b'{"images":{"0":"%s"}}' % CODED, False),
    "images of numbers": (b'{"images":[1,2]}', False),
    "images of null": (b'{"images":[null]}', False),
    "images of lists": (b'{"images":[["%s"]]}' % CODED, False),
    "images of objects": (b'{"images":[{"data":"%s"}]}' % CODED, False),
    "images, then a wrong one": (b'{"images":["%s"],"images":5}' % CODED, False),
    "images nested deep": (b'{"images":' + nested(b"[", b"]", b'"%s"' % CODED) + b"}", False),
    "an image nested deep": (b'{"images":["%s",%s]}' % (CODED, nested(b"[", b"]")), True),
    "links only, odd": (b'{"images":[],"download_urls":[1]}', False),
    "links only, a string": (b'{"download_urls":"https://h/x"}', False),
    "links only, nested deepest": (b'{"download_urls":%s}' % nested(b"[", b"]", depth=DEEPEST), False),
    "links only, with the key": (b'{"download_urls":[{"%s":1}]}' % KEY.encode(), False),
    "open lists": (b"[" * DEEPEST, False),
    "open objects": (b'{"a":' * DEEP, False),
    "closed lists": (nested(b"[", b"]"), False),
    "closed objects": (nested(b'{"images":', b"}", b"1"), False),
    "crossed deep": (nested(b"[", b"}"), False),
    "single quotes": (b"{'images':['%s']}" % CODED, False),
    "no quotes": (b'{images:["%s"]}' % CODED, False),
    "a comment": (b'/* */{"images":["%s"]}' % CODED, False),
    "a trailing comma": (b'{"images":["%s"],}' % CODED, True),
    "a trailing comma in the list": (b'{"images":["%s",]}' % CODED, True),
    "a missing comma": (b'{"images":["%s"] "known_subjects":null}' % CODED, True),
    "a missing colon": (b'{"images" ["%s"]}' % CODED, False),
    "a wrong word": (b'{"images":["%s"],"x":tru}' % CODED, True),
    "brackets crossed": (b'{"images":["%s"}]' % CODED, True),
    "two documents": (DOCUMENT + DOCUMENT, True),
    "text behind it": (DOCUMENT + b"<!-- -->", True),
    "half a byte order mark": (b"\xef\xbb" + DOCUMENT, False),
    "UTF-16": (DOCUMENT.decode().encode("utf-16"), False),
    "JSON lines": (DOCUMENT + b"\n" + DOCUMENT, True),
    "an event stream": (b"data: " + DOCUMENT + b"\n\n", False),
    "cut JSON": (DOCUMENT[:-1], True),
    "cut in the image": (DOCUMENT[:500], False),
    "cut at the image": (DOCUMENT[: DOCUMENT.index(b'["') + 1], False),
}


@pytest.mark.parametrize(("body", "whole"), WRONG.values(), ids=WRONG)
async def test_a_wrong_answer_is_an_error_and_no_half_image(
    body: bytes, *, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    serve = answering(answer(body, headers={"X-Request-Id": "req-7"}))
    rescued = (IMAGE,) if whole else ()
    error = await run(Case(serve=serve, ends=ResponseFormatError, rescued=rescued, says="req-7"), caplog)
    assert isinstance(error, ResponseFormatError)
    assert error.request_id == "req-7"


# ---- base64

WRAPPED = "\\n".join(ENCODED[i : i + 76] for i in range(0, len(ENCODED), 76))
WINDOWS = "\\r\\n".join(ENCODED[i : i + 64] for i in range(0, len(ENCODED), 64))
URL_SAFE = base64.urlsafe_b64encode(IMAGE).decode()
# Their base64 ends in one, no and two letters of padding.
ONE, NONE, TWO = IMAGE, IMAGE + b"x", IMAGE + b"xy"

SPELLINGS: dict[str, tuple[str, bytes]] = {
    "plain": (ENCODED, IMAGE),
    "no padding": (encoded(NONE), NONE),
    "two letters of padding": (encoded(TWO), TWO),
    "one letter of padding missing": (encoded(ONE).rstrip("="), ONE),
    "two letters of padding missing": (encoded(TWO).rstrip("="), TWO),
    "one of two letters of padding missing": (encoded(TWO)[:-1], TWO),
    "the url-safe alphabet": (URL_SAFE, IMAGE),
    "the url-safe alphabet without padding": (base64.urlsafe_b64encode(TWO).decode().rstrip("="), TWO),
    "both alphabets": (URL_SAFE[:2000] + ENCODED[2000:], IMAGE),
    "line breaks": (WRAPPED, IMAGE),
    "line breaks of Windows": (WINDOWS, IMAGE),
    "raw line breaks": (WRAPPED.replace("\\n", "\n"), IMAGE),
    "space around": (f"  {ENCODED}\\n", IMAGE),
    "tabs": (ENCODED[:100] + "\\t" + ENCODED[100:], IMAGE),
    "escaped slashes": (ENCODED.replace("/", "\\/"), IMAGE),
    "escaped letters": (ENCODED.replace("+", "\\u002b").replace("/", "\\u002F"), IMAGE),
    "every letter escaped": ("".join(f"\\u{ord(letter):04x}" for letter in ENCODED), IMAGE),
    "a data: URI": (f"data:image/png;base64,{ENCODED}", IMAGE),
    "a data: URI in capitals": (f"DATA:image/PNG;BASE64,{ENCODED}", IMAGE),
    "a data: URI with a parameter": (f"data:image/png;charset=utf-8;base64,{ENCODED}", IMAGE),
    "a data: URI without a type": (f"data:;base64,{ENCODED}", IMAGE),
    "a data: URI, url-safe, no padding": ("data:image/png;base64," + base64.urlsafe_b64encode(TWO).decode()[:-2], TWO),
    "one byte": ("AA==", b"\x00"),
    "one byte without padding": ("AA", b"\x00"),
}


@pytest.mark.parametrize(("text", "image"), SPELLINGS.values(), ids=SPELLINGS)
async def test_a_spelling_that_leaves_no_doubt_is_read(
    text: str, image: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    serve = answering(answer(body_with(f'"{text}","{encoded(OTHER_IMAGE)}"')))
    await run(Case(serve=serve, ends=(image, OTHER_IMAGE)), caplog)


@pytest.mark.parametrize("size", [*range(1, 10), 3070, 3071, 3072, 3073, 98_303, 98_304, 98_305, 400_001])
async def test_an_image_of_any_size_arrives_unharmed(size: int, caplog: pytest.LogCaptureFixture) -> None:
    image = (IMAGE * (1 + size // len(IMAGE)))[:size]
    await run(Case(serve=answering(answer(good_body(image, OTHER_IMAGE))), ends=(image, OTHER_IMAGE)), caplog)


DAMAGED: dict[str, str] = {
    "not base64": "*" * 100,
    "empty": "",
    "only space": " \\n ",
    "only padding": "====",
    "one letter": "A",
    "one letter too many": encoded(NONE) + "A",
    "a stray letter at the beginning": "*" + ENCODED,
    "a stray letter inside": f"{ENCODED[:2000]}*{ENCODED[2000:]}",
    "a stray letter in place of another": f"{ENCODED[:2000]}*{ENCODED[2001:]}",
    "a stray letter at the end": ENCODED + "!",
    "a zero inside": f"{ENCODED[:2000]}\\u0000{ENCODED[2000:]}",
    "padding at the beginning": "=" + ENCODED,
    "padding inside": ENCODED + ENCODED,
    "too much padding": ENCODED + "====",
    "half a byte": ENCODED[:401],
    "a data: URI of nothing": "data:image/png;base64,",
    "a data: URI without a comma": f"data:image/png;base64{ENCODED}",
    "a data: URI inside": f"{ENCODED}data:image/png;base64,{ENCODED}",
    "percent encoding": ENCODED.replace("+", "%2B").replace("/", "%2F"),
    "hexadecimal with colons": "89:50:4e:47",
    "a link": "https://cdn.example/image.png",
    "UTF-8": "ÄÖÜ€😀",
    "full-width letters": "\\uff21" * 8,
    "half a character": "\\ud83d",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
async def test_damage_is_an_error_on_which_the_intact_images_ride(text: str, caplog: pytest.LogCaptureFixture) -> None:
    body = body_with(f'"{ENCODED}","{text}","{encoded(OTHER_IMAGE)}"')
    case = Case(serve=answering(answer(body)), ends=ResponseFormatError, rescued=(IMAGE, OTHER_IMAGE), says="images[1]")
    await run(case, caplog)


BROKEN_STRINGS: dict[str, bytes] = {
    "a wrong escape": b'"\\x41%s"' % CODED,
    "half an escape": b'"\\u00"',
    "a string without an end": b'"%s' % CODED[:40],
    "a raw quote, which would make a half image": b'"%s"%s"' % (CODED[:40], CODED[40:]),
}


@pytest.mark.parametrize("element", [b"5", b"null", b"[]"])
async def test_images_around_an_element_that_is_none_ride_on_the_error(
    element: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    body = body_with(f'"{ENCODED}",{element.decode()},"{encoded(OTHER_IMAGE)}"')
    case = Case(serve=answering(answer(body)), ends=ResponseFormatError, rescued=(IMAGE, OTHER_IMAGE), says="images[1]")
    await run(case, caplog)


@pytest.mark.parametrize("element", BROKEN_STRINGS.values(), ids=BROKEN_STRINGS)
async def test_images_before_a_string_that_is_none_ride_on_the_error(
    element: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    body = body_with(f'"{ENCODED}",{element.decode()}')
    case = Case(serve=answering(answer(body)), ends=ResponseFormatError, rescued=(IMAGE,))
    await run(case, caplog)


@pytest.mark.parametrize("raw", [b"\xff\xfe\xfd", b"\xc3", b"\x80AAAA"])
async def test_raw_bytes_in_an_image_are_an_error(raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    serve = answering(answer(b'{"images":["%s"]}' % raw))
    await run(Case(serve=serve, ends=ResponseFormatError), caplog)
