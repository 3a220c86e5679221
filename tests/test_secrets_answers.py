"""A service, or a proxy before it, that repeats the key wherever it can: no error and no log repeats it again.

What a good answer says is another thing: its links and the names in `known_subjects` are data, which is
handed over as it came.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import TypeAlias

import pytest
from canary import KEY, logged, shown, with_locals
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_server import (
    GOOD,
    IMAGE,
    PHOTO,
    RawServer,
    Wire,
    answer,
    answering,
    chain,
    client,
    encoded,
    good_body,
    stalling_once,
)

from phota_async import (
    APIError,
    DeadlineExceededError,
    EnhanceResult,
    PhotaClient,
    PhotaError,
    ResponseFormatError,
    RetryPolicy,
)
from phota_async.codec.error_answer import MAX_BODY_BYTES

ONCE = RetryPolicy(max_attempts=1)
FUZZ = settings(derandomize=True, deadline=None, max_examples=150)

Place: TypeAlias = Callable[[str], bytes]


def document(status: int, **members: object) -> bytes:
    return answer(json.dumps(members).encode(), status)


def issue(key: str) -> dict[str, object]:
    return {"loc": ["header", key, 1], "msg": f"bad {key}", "type": key}


# Where an answer may repeat the key.
PLACES: dict[str, Place] = {
    "detail": lambda key: document(401, detail=f"bad key {key}", code=key, request_id=key),
    "names": lambda key: document(400, **{key: key, "detail": {key: key}}),
    "issues": lambda key: document(422, detail=[issue(key)]),
    "an issue of another shape": lambda key: document(422, detail=[{"loc": {key: key}, "msg": key}]),
    "no JSON": lambda key: answer(f"<p>X-API-Key: {key}</p>".encode(), 403),
    "compressed": lambda key: answer(
        gzip.compress(f'{{"detail":{json.dumps(key)}}}'.encode()), 402, {"Content-Encoding": "gzip"}
    ),
    "UTF-16": lambda key: answer(json.dumps({"detail": key}).encode("utf-16"), 402),
    "reason": lambda key: f"HTTP/1.1 400 {key}\r\nContent-Length: 0\r\n\r\n".encode(),
    "request id": lambda key: answer(b"{}", 500, {"X-Request-Id": key}),
    "request id of a success": lambda key: answer(b"{}", 200, {"X-Request-Id": f"a-{key}"}),
    "Retry-After": lambda key: answer(b"{}", 429, {"Retry-After": key}),
    "Location": lambda key: answer(b"", 302, {"Location": f"http://127.0.0.1/{key}"}),
    "Content-Type": lambda key: answer(b"{}", 400, {"Content-Type": f"text/html; charset={key}"}),
    "deprecation": lambda key: answer(b"{}", 404, {"X-Phota-Deprecation-Date": key}),
    "deprecation with a success": lambda key: answer(good_body(), 200, {"X-Phota-Deprecation-Date": key}),
    "encoding": lambda key: answer(good_body(), 200, {"Content-Encoding": key}),
    "encoding of an error": lambda key: answer(b"{}", 400, {"Content-Encoding": key}),
    "cookie": lambda key: answer(b"{}", 400, {"Set-Cookie": f"key={key}; Path={key}", "WWW-Authenticate": key}),
    "name of a header": lambda key: f"HTTP/1.1 400 x\r\nA {key}\x00: x\r\n\r\n".encode(),
    "length": lambda key: f"HTTP/1.1 200 OK\r\nContent-Length: {key}\r\n\r\n".encode(),
    "framing": lambda key: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {key}\r\n\r\n".encode(),
    "size of a chunk": lambda key: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{key}\r\n".encode(),
    "no HTTP": lambda key: f"{key}\r\n\r\n".encode(),
    "version": lambda key: f"HTTP/{key} 200 OK\r\n\r\n".encode(),
    "success that is no JSON": lambda key: answer(key.encode()),
    "image": lambda key: answer(json.dumps({"images": [f"{key}!"]}).encode()),
    "name for an image": lambda key: answer(json.dumps({"images": [{key: key}]}).encode()),
    "links of another shape": lambda key: answer(json.dumps({"images": [], "download_urls": [{key: key}]}).encode()),
    "subjects of another shape": lambda key: answer(good_body(known_subjects={"counts": {key: 1.5}})),
    "subjects and what they are": lambda key: answer(good_body(known_subjects={key: key, "counts": [key]})),
    "member": lambda key: answer(json.dumps({key: key, "images": [encoded(IMAGE)]}).encode()),
    "good names": lambda key: answer(
        good_body(known_subjects={"counts": {key: 1}}, download_urls=[f"https://h/{key}"])
    ),
    "cut": lambda _: answer(b'{"images":["', length=100),
    "closed": lambda _: b"",
}


async def met(data: bytes, key: str, retry: RetryPolicy) -> tuple[PhotaError | None, str]:
    """Return the error that a call ends in, or None, and all that was logged meanwhile."""
    with logged() as log:
        async with RawServer(answering(data)) as server, client(server, key=key, retry=retry) as phota:
            try:
                await phota.enhance(PHOTO)
            except PhotaError as error:
                return error, log.getvalue()
    return None, log.getvalue()


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
async def test_the_key_is_in_no_error_and_no_log(place: Place) -> None:
    statuses = frozenset({400, 401, 402, 404, 422, 429, 500})
    retry = RetryPolicy(initial_wait=0, max_attempts=2, statuses=statuses, retry_unknown=True)
    error, log = await met(place(KEY), KEY, retry)
    assert KEY[:5] not in log
    if error is not None:
        assert KEY[:5] not in shown(error) + with_locals(error)
        assert not any(type(one).__module__.startswith("aiohttp") for one in chain(error))


# Of several different characters, so that no line of dashes or zeros is taken for it.
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60).filter(
    lambda key: len(set(key)) > 5
)


@FUZZ
@given(KEYS, st.sampled_from(sorted(PLACES)))
def test_no_key_whatever_its_characters_is_repeated_from_any_place(key: str, place: str) -> None:
    error, log = asyncio.run(met(PLACES[place](key), key, ONCE))
    assert key not in log
    if error is not None:
        assert key not in shown(error)
        for words in (error.request_id, getattr(error, "detail", None), getattr(error, "code", None)):
            assert key not in (words or "")


# ---- other spellings


def plainly(text: str) -> str:
    return json.dumps(text)


def with_slashes_escaped(text: str) -> str:
    return json.dumps(text).replace("/", "\\/")


def with_all_escaped(text: str) -> str:
    return '"' + "".join(f"\\u{ord(letter):04x}" for letter in text) + '"'


@pytest.mark.parametrize("key", ['ca"na\\ry', "ca/na/ry", "<canary>&'", "can%61ry"])
@pytest.mark.parametrize("spell", [plainly, with_slashes_escaped, with_all_escaped])
async def test_a_key_that_is_echoed_in_another_spelling_is_not_repeated(key: str, spell: Callable[[str], str]) -> None:
    body = f'{{"detail": {spell(key)}, "code": {spell(key)}}}'.encode()
    async with RawServer(answering(answer(body, 401))) as server, client(server, key=key) as phota:
        with pytest.raises(APIError) as caught:
            await phota.enhance(PHOTO)
    assert key not in (caught.value.detail or "")
    assert key not in (caught.value.code or "")
    assert key not in str(caught.value)


@pytest.mark.parametrize("before", [0, 5, 9])
@pytest.mark.parametrize("repeated", [0, 3000])
async def test_a_key_is_not_repeated_in_part_where_an_errors_body_is_cut(before: int, repeated: int) -> None:
    keys, more = (KEY * repeated).encode(), (KEY * 20).encode()
    first = keys + b"x" * (MAX_BODY_BYTES - before - len(keys)) + more[:before]
    first, rest = answer(first + more[before:], 400)[: before - len(more)], more[before:]

    async def in_two(wire: Wire) -> None:
        await wire.request()
        await wire.send(first)
        await wire.send(rest)

    async with RawServer(in_two) as server, client(server) as phota:
        with pytest.raises(APIError) as caught:
            await phota.enhance(PHOTO)
    assert len(caught.value.body) <= MAX_BODY_BYTES
    assert KEY[:5].encode() not in caught.value.body
    assert caught.value.body.count(b"***") >= repeated


async def test_a_long_key_is_not_repeated_in_part_where_words_are_shortened() -> None:
    key = f"{KEY}{'-0123456789abcdef' * 20}"
    wrong = answer(good_body(), 200, {"Content-Encoding": key, "X-Phota-Deprecation-Date": key, "X-Request-Id": key})
    with logged() as log:
        async with RawServer(answering(wrong)) as server, client(server, key=key) as phota:
            with pytest.raises(ResponseFormatError, match="compressed as") as caught:
                await phota.enhance(PHOTO)
    assert KEY not in shown(caught.value) + log.getvalue()


async def test_what_a_good_answer_says_is_handed_over_as_it_came() -> None:
    link = f"https://h/{KEY}"
    body = good_body(known_subjects={"counts": {KEY: 1}}, download_urls=[link])
    with logged() as log:
        async with RawServer(answering(answer(body))) as server, client(server) as phota:
            result = await phota.enhance(PHOTO)
    assert (result.known_subjects, result.download_urls) == ({KEY: 1}, (link,))
    assert KEY not in log.getvalue()


# ---- no answer


async def test_the_key_is_in_no_error_of_a_connection() -> None:
    with logged() as log:
        for url in ("https://something.invalid", "http://127.0.0.1:1"):
            async with PhotaClient(KEY, base_url=url, retry=ONCE) as phota:
                with pytest.raises(PhotaError) as caught:
                    await phota.enhance(PHOTO)
                assert KEY not in shown(caught.value)
                assert not any(type(one).__module__.startswith("aiohttp") for one in chain(caught.value))
        async with RawServer(stalling_once) as server, client(server) as phota:
            with pytest.raises(DeadlineExceededError) as late:
                await phota.enhance(PHOTO, timeout=0.1)
            assert KEY not in shown(late.value)
            server.abandon()
    assert KEY not in log.getvalue()


# ---- an event loop that tells all


async def test_a_loop_in_debug_mode_tells_all_but_the_key() -> None:
    loop = asyncio.get_running_loop()
    image = answer(b"\x89PNG\r\n\x1a\n" + bytes(100), kind="image/png")
    with logged() as log:
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0  # every callback is told of
        try:
            async with RawServer(answering(GOOD), answering(image), stalling_once) as server, client(server) as phota:
                assert isinstance(await phota.enhance(PHOTO), EnhanceResult)
                await phota.download(f"{server.url}/a.png")
                cut_off = asyncio.create_task(phota.enhance(PHOTO))
                await server.stalled()
                for task in asyncio.all_tasks():
                    # As for one that was destroyed while it was pending.
                    loop.call_exception_handler({"message": "the task, as it stands", "task": task})
                cut_off.cancel()
                await asyncio.wait([cut_off])
                server.abandon()
        finally:
            loop.set_debug(False)
    assert "Executing <" in log.getvalue()
    assert "PhotaClient.enhance() running at" in log.getvalue()
    assert KEY not in log.getvalue()
