"""The fixture `phota_sandbox`, for tests of programs that use the library."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .server import Sandbox


@pytest.fixture
def phota_sandbox() -> Iterator["Sandbox"]:
    """A sandbox in a thread of its own, for plain and async tests alike; its images are 512 pixels long."""
    # Every run of pytest loads this plugin; only a test that asks for the sandbox pays for it.
    from . import Sandbox  # noqa: PLC0415

    with Sandbox(long_edge=512) as box:
        yield box
