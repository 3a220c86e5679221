"""Photos enhanced on a Ray cluster: `Enhance` is what ``map_batches`` of Ray Data is given.

::

    rows ─► batch ─► one task for each photo ─► look into the store ─► found: handed over, nothing is bought
                                                       │ new
                                                       ▼
                          claim (made only if there is none) ─► POST ─► images ─► record ─► rows

Ray runs a batch again whenever it thinks fit: a worker died, a node went away, a block was lost. So nothing is bought
that is not claimed first in a store that all workers share, and nothing is handed over that is not recorded there.
"""

try:
    from phota_async.ray.enhance import Enhance
except ModuleNotFoundError as error:
    _missing: str | None = error.name
else:
    _missing = None
if _missing is not None:
    raise ImportError(f"phota_async.ray needs {_missing}, which is not installed: install phota-async[ray]")

__all__ = ["Enhance"]
