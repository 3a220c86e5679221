"""How often a property is tried: a little each time, with the same examples, so that a test run says the same twice.

With PROPERTY_TIMES=20 in the environment it is tried twenty times as often, with examples of that run's own; that takes
longer than a test may by default (--timeout 600).
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("PROPERTY_TIMES", "1"))


def examples(count: int, *, steps: int = 50) -> settings:
    """Return the settings of a property that is tried ``count`` times, as a machine with up to ``steps`` steps."""
    return settings(
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        max_examples=count * TIMES,
        stateful_step_count=steps,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        print_blob=True,
    )
