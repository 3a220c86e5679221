"""Whoever looks at a client, copies it, dumps it, or is refused one, does not see the key."""

from __future__ import annotations

import copy
import json
import pickle
import pprint
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict
from canary import KEY, logged, shown, with_locals
from raw_server import GOOD, PHOTO, RawServer, answer, answering, client
from rich.pretty import pretty_repr

from phota_async import PhotaClient, PhotaError, RetryDetails, RetryPolicy, Timeout
from phota_async.records import FolderEvent, FolderFailure, FolderProgress, FolderReport
from phota_async.settings import Key
from phota_async.transport.post import Endpoint


def inside(value: Any, depth: int = 3) -> Iterator[Any]:
    """A value and what its attributes hold, a few levels deep."""
    yield value
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    names = {*getattr(value, "__dict__", {}), *slots} - {"__weakref__"}
    if depth and type(value).__module__.startswith("phota_async"):
        for name in names:
            yield from inside(getattr(value, name), depth - 1)


def spoken(value: object) -> str:
    """What the ways to put a value into words make of it."""
    return f"{value}{value!r}{value!a}{reprlib.repr(value)}{pprint.pformat(value)}{pretty_repr(value, max_string=8)}"


# ---- clients


async def test_the_key_is_in_no_words_about_a_client() -> None:
    async with RawServer(answering(GOOD)) as server, client(server) as phota:
        await phota.enhance(PHOTO)
        other = phota.with_options(timeout=Timeout(overall=5))
        for one in (phota, other, copy.copy(phota), phota.with_options(api_key=f"{KEY}2")):
            held = [value for value in inside(one) if not isinstance(value, str)]
            assert any(type(value).__name__ == "Settings" for value in held)
            assert KEY[:8] not in "".join(map(spoken, held))
            assert KEY[:8] not in spoken(vars(one))


async def test_the_key_is_in_no_words_about_where_calls_go() -> None:
    phota = PhotaClient(KEY)
    key = next(value for value in inside(phota) if isinstance(value, Key))
    url = next(value.base_url for value in inside(phota) if type(value).__name__ == "Settings")
    endpoint = Endpoint(url=url, key=key, proxy=None, timeout=Timeout(), max_response_bytes=1)
    assert endpoint.key == KEY
    assert KEY[:8] not in spoken(endpoint)
    # Some tools look into values instead of asking them.
    assert KEY[:8] not in repr(asdict(endpoint))
    assert KEY[:8] not in spoken({"headers": [key]}) + repr(key) + reprlib.repr(key) + pretty_repr(key, max_string=8)


def test_a_client_is_not_pickled_or_copied_deeply_and_says_why() -> None:
    phota = PhotaClient(KEY)
    for dump in (pickle.dumps, copy.deepcopy):
        for one in inside(phota):
            if one is phota or isinstance(one, Key) or type(one).__name__ == "Settings":
                with pytest.raises(TypeError, match="holds the key, so it is not pickled or deep-copied") as caught:
                    dump(one)
                assert KEY[:8] not in f"{caught.value}{with_locals(caught.value)}"


async def test_a_copied_client_goes_on_working() -> None:
    async with RawServer(answering(GOOD)) as server, client(server) as phota:
        await copy.copy(phota).enhance(PHOTO)
        assert server.requests[0].headers["X-Api-Key"] == KEY


# ---- what a client hands out


async def test_the_key_is_in_no_pickle_of_what_a_client_hands_out() -> None:
    told: list[RetryDetails] = []
    refusal = answering(answer(json.dumps({"detail": f"no: {KEY}"}).encode(), 503))
    async with RawServer(refusal, answering(GOOD)) as server, client(server, on_retry=told.append) as phota:
        result = await phota.enhance(PHOTO)
        batch = await phota.enhance_many([PHOTO, b"no photo"])
    failure = FolderFailure(source=Path("a.jpg"), state="failed", reason="", kind="", error=told[0].error)
    values: tuple[Any, ...] = (
        *(result, batch, batch[0], batch[1], batch[1].error, *told, failure, FolderReport(failures=(failure,))),
        FolderEvent(kind="failed", progress=FolderProgress(), error=told[0].error),
    )
    for value in values:
        assert pickle.loads(pickle.dumps(value)).__class__ is type(value)  # noqa: S301  (made just now)
        assert KEY.encode() not in pickle.dumps(value)
        assert KEY not in spoken(value)


# ---- clients that are refused


@pytest.mark.parametrize(
    "key", [f"{KEY}\n", f" {KEY}", f"{KEY}\x00", f"{KEY}é", f"{KEY}\x7f", f"{KEY} x", KEY.encode(), [KEY]]
)
def test_a_key_that_no_header_holds_is_refused_without_being_echoed(key: str) -> None:
    with pytest.raises(ValueError, match="api_key must be printable ASCII") as caught:
        PhotaClient(key)
    assert KEY not in shown(caught.value) + with_locals(caught.value)
    with pytest.raises(ValueError, match="api_key must be printable ASCII") as caught:
        PhotaClient("good").with_options(api_key=key)
    assert KEY not in shown(caught.value) + with_locals(caught.value)


def test_a_key_in_the_environment_is_refused_without_being_echoed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTA_API_KEY", f"{KEY}\n")
    with pytest.raises(ValueError, match="api_key must be printable ASCII") as caught:
        PhotaClient()
    assert KEY not in shown(caught.value) + with_locals(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "ftp://h"},
        {"base_url": "http://far.example"},
        {"timeout": 5},
        {"retry": None},
        {"max_response_bytes": 0},
    ],
)
def test_a_wrong_setting_shows_no_key_beside_it(wrong: dict[str, Any]) -> None:
    for build in (PhotaClient, PhotaClient("good").with_options):
        with pytest.raises(ValueError, match=next(iter(wrong))) as caught:
            build(api_key=KEY, **wrong)
        assert "PhotaClient" in with_locals(caught.value)
        assert KEY[:8] not in shown(caught.value) + with_locals(caught.value)


def test_a_bad_base_url_is_refused_without_its_secrets() -> None:
    for url in (f"https://user:{KEY}@h/v1", f"https://h/v1?token={KEY}", f"ftp://user:{KEY}@h/", f"http://h/?k={KEY}"):
        with pytest.raises(ValueError, match="base_url") as caught:
            PhotaClient("key", base_url=url)
        assert KEY not in shown(caught.value)


# ---- a proxy's password


def test_a_bad_proxy_is_refused_without_its_secrets() -> None:
    with pytest.raises(ValueError, match="proxy") as caught:
        PhotaClient("key", proxy=f"socks5://user:{KEY}@h/")
    assert KEY not in shown(caught.value)
    with pytest.raises(ValueError, match="proxy") as caught:
        PhotaClient("key", proxy=f"http://user:{KEY}@h/".encode())  # type: ignore[arg-type]  # that is what is refused
    assert KEY not in shown(caught.value)


async def test_a_proxys_password_is_in_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:{KEY}@127.0.0.1:1")
    once = RetryPolicy(max_attempts=1)
    given = PhotaClient("key", proxy=f"http://user:{KEY}@127.0.0.1:1/", retry=once)
    for phota in (given, PhotaClient("key", base_url="https://h.invalid", retry=once)):
        assert KEY not in "".join(map(spoken, inside(phota, depth=2)))
        with logged() as log:
            async with phota:
                with pytest.raises(PhotaError, match="cannot connect to the proxy") as caught:
                    await phota.enhance(PHOTO)
        assert KEY not in shown(caught.value) + log.getvalue()


async def test_a_proxy_of_an_unknown_kind_in_the_environment_is_refused_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", f"socks5://user:{KEY}@h:1")
    async with PhotaClient("key") as phota:
        with pytest.raises(ValueError, match="proxy must be") as caught:
            await phota.enhance(PHOTO)
    assert KEY not in shown(caught.value)


# ---- what is said about it


def test_the_threat_model_names_tests_that_are_there() -> None:
    here = Path(__file__).parent
    rules = [line for line in (here.parent / "SECURITY.md").read_text().splitlines() if line.startswith("|")][2:]
    for rule in rules:
        held_by = re.findall(r"`(test_\w+\.py)`", rule)
        assert held_by, rule
        assert [name for name in held_by if not (here / name).is_file()] == []
