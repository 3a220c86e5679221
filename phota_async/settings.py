"""What a client is built with, checked when it is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Never, SupportsIndex

from attrs import Attribute, field, frozen
from yarl import URL

from phota_async.errors import without_query
from phota_async.retry import RetryDetails, RetryPolicy
from phota_async.transport.proxies import Proxies, is_loopback, proxy_url
from phota_async.transport.session import Timeout

DEFAULT_BASE_URL = "https://api.photalabs.com/v1/phota"
KEY_VARIABLE = "PHOTA_API_KEY"
URL_VARIABLE = "PHOTA_BASE_URL"


class Key(str):
    """The account's key, which what prints, dumps or shows local variables does not give away."""

    __slots__ = ()

    @classmethod
    def of(cls, value: object) -> Key:
        """Take a value in before anything can fail: a traceback may show what every call on it was given."""
        # What is no text is no key, and is not held either: it may be the bytes of one.
        return cls(value if isinstance(value, str) else " " if value else "")

    def __repr__(self) -> str:
        return "<key>"

    def __getitem__(self, index: SupportsIndex | slice) -> Key:
        # Who shows long strings cuts them first.
        return Key(super().__getitem__(index))

    def __reduce__(self) -> Never:
        raise TypeError("a PhotaClient holds the key, so it is not pickled or deep-copied: build one where it is used")


def _key(_: object, attribute: Attribute[Any], value: object) -> None:
    # Never echoed: this message ends up in logs.
    if value is None or value == "":
        raise ValueError(f"{attribute.name} is missing: pass it, or set the environment variable {KEY_VARIABLE}")
    if not isinstance(value, str) or not all("!" <= character <= "~" for character in value):
        raise ValueError(f"{attribute.name} must be printable ASCII without spaces or line breaks")


def count_or_none(_: object, attribute: Attribute[Any], value: object) -> None:
    """Accept None and whole numbers from 0."""
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{attribute.name} must be a whole number from 0 or None, not {value!r}")


def positive(_: object, attribute: Attribute[Any], value: object) -> None:
    """Accept whole numbers from 1."""
    if type(value) is not int or value < 1:
        raise ValueError(f"{attribute.name} must be a whole number from 1, not {value!r}")


def _function_or_none(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and (not callable(value) or inspect.iscoroutinefunction(value)):
        raise ValueError(f"{attribute.name} must be a plain function or None, not {value!r}")


def _a(kind: type) -> Callable[[object, Attribute[Any], object], None]:
    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            raise ValueError(f"{attribute.name} must be a {kind.__name__}, not {value!r}")

    return check


def _url(value: str | URL) -> URL:
    try:
        url = URL(value)
    except (TypeError, ValueError):
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host or url.query_string or url.user is not None:
        raise ValueError(
            f"base_url must be an http or https URL without user or query, not {without_query(str(value))!r}"
        )
    return url.with_fragment(None).with_path(url.raw_path.rstrip("/"), encoded=True)


@frozen(kw_only=True, repr=False)  # a traceback that shows local variables also asks one that was refused half built
class Settings:
    """What holds for each call of a client.

    Raises:
        ValueError: A value is wrong; the message names the field.
    """

    api_key: str = field(repr=False, validator=_key)
    base_url: URL = field(converter=_url)
    timeout: Timeout = field(validator=_a(Timeout))
    retry: RetryPolicy = field(validator=_a(RetryPolicy))
    max_response_bytes: int = field(validator=positive)
    on_retry: Callable[[RetryDetails], object] | None = field(validator=_function_or_none)
    allow_http: bool = field(validator=_a(bool))

    def __attrs_post_init__(self) -> None:
        if self.base_url.scheme == "http" and not self.allow_http and not is_loopback(self.base_url.host or ""):
            raise ValueError("base_url must be https, because the key goes there; allow_http=True permits plain http")


def proxies(value: str | URL | None, environment: Mapping[str, str]) -> Proxies:
    """Return the proxies to use.

    Args:
        value: A proxy's URL for everything, ``""`` for none at all, or None for what the environment says.
        environment: Proxies by scheme, as `urllib.request.getproxies_environment` gives them.

    Raises:
        ValueError: ``proxy`` is no http or https URL.
    """
    if value is None:
        return Proxies(environment)
    if not isinstance(value, str | URL):
        # Not the value, which may hold a password.
        raise ValueError(f"proxy must be a URL, an empty string or None, not {type(value).__name__}")
    return Proxies({"all": str(proxy_url(str(value)))} if str(value) else {}, spares_loopback=False)
