"""What a client is built with: checked when it is built, named when it is wrong, silent about the key."""

from __future__ import annotations

import math
from typing import Any

import pytest
from attrs import evolve, field, frozen
from yarl import URL

from phota_async import PhotaClient, RetryPolicy, Timeout
from phota_async.settings import DEFAULT_BASE_URL, Settings, count_or_none, positive

GOOD: dict[str, Any] = {
    "api_key": "pk-123",
    "base_url": DEFAULT_BASE_URL,
    "timeout": Timeout(),
    "retry": RetryPolicy(),
    "max_response_bytes": 1,
    "on_retry": None,
    "allow_http": False,
}


def settings(**changes: Any) -> Settings:
    return Settings(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://api.photalabs.com/v1/phota", "https://api.photalabs.com/v1/phota"),
        ("https://api.photalabs.com/v1/phota/", "https://api.photalabs.com/v1/phota"),
        ("https://api.photalabs.com/v1/phota//#f", "https://api.photalabs.com/v1/phota"),
        ("https://a.example", "https://a.example"),
        ("HTTPS://A.example:8443/x", "https://a.example:8443/x"),
        ("https://a.example/a%2Fb/", "https://a.example/a%2Fb"),
        (URL("https://a.example/x"), "https://a.example/x"),
        ("http://localhost:8321", "http://localhost:8321"),
        ("http://box.localhost", "http://box.localhost"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:1", "http://[::1]:1"),
    ],
)
def test_a_base_url_is_https_or_loopback(value: str | URL, expected: str) -> None:
    url = settings(base_url=value).base_url
    assert url == URL(expected)
    assert (url / "enhance").path.endswith("/enhance")
    assert "//" not in (url / "enhance").path


@pytest.mark.parametrize(
    "value",
    [
        "",
        "api.photalabs.com",
        "ftp://a.example",
        "https://",
        "https:///v1",
        "//a.example",
        "https://a.example?x=1",
        "file:///x",
        "https://user@a.example",
        "https://user:secret@a.example",
        "https://a.example:99999",
        None,
        7,
        b"x",
    ],
)
def test_any_other_base_url_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="base_url must be an http or https URL") as caught:
        settings(base_url=value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["http://a.example", "http://10.0.0.1", "http://0.0.0.0", "http://localhost.evil.example"]
)
def test_the_key_goes_over_plain_http_only_where_it_is_allowed_to(value: str) -> None:
    with pytest.raises(ValueError, match="base_url must be https"):
        settings(base_url=value)
    assert settings(base_url=value, allow_http=True).base_url == URL(value)


@pytest.mark.parametrize("key", ["k", "pk-123_ABC.~!", "x" * 500])
def test_a_key_is_printable_ascii(key: str) -> None:
    assert settings(api_key=key).api_key == key


@pytest.mark.parametrize(
    "key",
    [" key", "key ", "my key", "key\n", "key\r\nX-Evil: 1", "k\x00", "kéy", "k\x7f", "\u200bkey", b"bytes", 7, True],
)
def test_any_other_key_is_refused_without_being_repeated(key: Any) -> None:
    with pytest.raises(ValueError, match="api_key must be printable ASCII") as caught:
        settings(api_key=key)
    assert repr(key) not in str(caught.value)


@pytest.mark.parametrize("key", ["", None])
def test_a_missing_key_is_told_with_the_way_to_give_it(key: str | None) -> None:
    with pytest.raises(ValueError, match="api_key is missing: pass it, or set the environment variable PHOTA_API_KEY"):
        settings(api_key=key)


BAD_SETTINGS: dict[str, list[Any]] = {
    "timeout": [None, 5, {}],
    "retry": [None, 3, True],
    "max_response_bytes": [0, -1, 1.5, True, None, "1"],
    "on_retry": [1, "print", []],
    "allow_http": [None, 1, "yes"],
}


@pytest.mark.parametrize("options", [{name: value} for name in BAD_SETTINGS for value in BAD_SETTINGS[name]], ids=repr)
def test_a_bad_setting_is_refused_by_its_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        settings(**options)


def test_settings_do_not_show_the_key_and_are_checked_again_when_changed() -> None:
    assert "pk-123" not in repr(settings())
    assert evolve(settings(), api_key="other").api_key == "other"
    with pytest.raises(ValueError, match="https"):
        evolve(settings(base_url="http://a.example", allow_http=True), allow_http=False)


# ---- numbers


@frozen
class Counts:
    most: int | None = field(default=None, validator=count_or_none)
    least: int = field(default=1, validator=positive)


def test_whole_numbers_are_accepted_where_they_make_sense() -> None:
    assert (Counts(0).most, Counts(7).most, Counts(None).most, Counts(least=1).least) == (0, 7, None, 1)


@pytest.mark.parametrize("value", [-1, 1.0, True, False, "1", math.nan])
def test_other_counts_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="most must be a whole number from 0 or None"):
        Counts(value)
    with pytest.raises(ValueError, match="least must be a whole number from 1"):
        Counts(least=value)


@pytest.mark.parametrize("name", ["connect", "attempt", "overall"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "10", [1]])
def test_a_bad_timeout_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Timeout(**{name: value})


def test_timeouts_default_to_what_the_contract_says_and_none_is_for_ever() -> None:
    assert (Timeout().connect, Timeout().attempt, Timeout().overall) == (10.0, 630.0, None)
    unbounded = Timeout(connect=None, attempt=None, overall=None)
    assert (unbounded.connect, unbounded.attempt) == (None, None)
    assert Timeout(connect=1).connect == 1


# ---- through the door


BAD_OPTIONS: dict[str, list[Any]] = {
    "max_concurrency": [0, -1, 1.5, True, None, "16"],
    "max_queue": [-1, 1.5, True, "0"],
    "session": [1, "session", object],
    "proxy": ["socks5://p", "http://", 7, b"http://p", False],
    "trace_configs": [7, None, ["x"]],
    "base_url": ["ftp://a.example"],
    "timeout": [5],
    "retry": [3],
    "on_retry": [1],
    "max_response_bytes": [0],
}


@pytest.mark.parametrize("options", [{name: value} for name in BAD_OPTIONS for value in BAD_OPTIONS[name]], ids=repr)
def test_a_client_refuses_a_bad_option_by_its_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        PhotaClient("key", **options)


def test_key_and_url_come_from_the_environment_where_none_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="PHOTA_API_KEY"):
        PhotaClient()
    monkeypatch.setenv("PHOTA_API_KEY", "from-the-environment")
    assert DEFAULT_BASE_URL in repr(PhotaClient())
    monkeypatch.setenv("PHOTA_BASE_URL", "https://other.example/v1")
    assert "https://other.example/v1" in repr(PhotaClient())
    assert "https://third.example" in repr(PhotaClient(base_url="https://third.example"))
    assert "environment" not in repr(PhotaClient())
    with pytest.raises(ValueError, match="api_key"):
        PhotaClient("")
