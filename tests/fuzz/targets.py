"""What is fuzzed, and where its inputs are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzz import decoder, error_body, inflater, retry_after

HERE = Path(__file__).parent

TARGETS: dict[str, Callable[[bytes], None]] = {
    "decoder": decoder.check,
    "retry_after": retry_after.check,
    "error_body": error_body.check,
    "inflater": inflater.check,
}


def kept(folder: str, target: str) -> list[Path]:
    """Return the inputs that are kept for a target, in ``corpus`` or ``findings``."""
    return sorted((HERE / folder / target).glob("*"))
