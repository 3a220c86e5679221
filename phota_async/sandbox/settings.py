"""What a sandbox can be told, checked whenever it is set."""

from collections.abc import Collection, Mapping, Sequence
from typing import cast

from attrs import define, field

from .conditions import all_texts, is_finite, is_number, is_text, is_whole, must, or_none
from .faults import Fault

_PORTS = range(2**16)
_LONG_EDGES = range(1, 2**13 + 1)


def _are_faults(value: object) -> bool:
    return isinstance(value, Sequence) and all(isinstance(item, Fault) for item in cast("Sequence[object]", value))


def _are_profiles(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    statuses = cast("Mapping[object, object]", value)
    return all_texts([*statuses, *statuses.values()])


@define(kw_only=True, eq=False)
class Settings:
    """The options of a sandbox; all but `host`, `port` and `seed` may be changed while it runs.

    `keys`: the accepted keys, None for any. `credits`: the USD that are left, None for endless; sales are
    taken off it. `profiles`: status by profile id, None for every id being READY. `long_edge`: pixels of an
    answer's longer side. `latency`: the least seconds that an enhancement takes. `link_lifetime`: seconds.
    `capacity`: the calls processed at once beyond which one is refused with 503, and `retry_after` what that
    answer names. `fault_rate`: the share of enhance requests that meet one of `faults`, drawn by `seed`.
    `moderated_words`: prompts that hold one, in any case, are refused.
    """

    host: str = field(default="127.0.0.1", validator=must("a host name", is_text))
    port: int = field(default=0, validator=must("a port", lambda v: is_whole(v) and v in _PORTS))
    keys: Collection[str] | None = field(default=None, validator=or_none("a collection of keys", all_texts), repr=False)
    credits: float | None = field(default=None, validator=or_none("USD, not negative", is_number))
    profiles: Mapping[str, str] | None = field(
        default=None, validator=or_none("a mapping of id to status", _are_profiles)
    )
    long_edge: int = field(default=2048, validator=must("1 to 8192 pixels", lambda v: is_whole(v) and v in _LONG_EDGES))
    latency: float = field(default=0.0, validator=must("seconds, not negative", is_number))
    link_lifetime: float = field(default=86400.0, validator=must("seconds, finite and not negative", is_finite))
    capacity: int | None = field(default=None, validator=or_none("calls, not negative", is_whole))
    retry_after: float | str | None = field(
        default=None, validator=or_none("seconds or a date", lambda v: is_number(v) or is_text(v))
    )
    fault_rate: float = field(default=0.0, validator=must("a share, 0 to 1", lambda v: is_number(v) and v <= 1))
    faults: Sequence[Fault] = field(default=(), validator=must("a sequence of Fault", _are_faults))
    seed: int | None = field(default=None, validator=or_none("a whole number", is_whole))
    moderated_words: Collection[str] = field(default=("forbidden",), validator=must("a collection of words", all_texts))
