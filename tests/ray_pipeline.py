"""README's pipeline on a Ray of two CPUs: ``python ray_pipeline.py JSON`` prints a JSON line for each row.

The JSON tells where the photos are, the batch size, the greatest number of workers, and what `Enhance` is built with.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

from phota_async import Timeout
from phota_async.ray import Enhance

ray: Any = import_module("ray")  # not there where types are checked


def run(job: dict[str, Any]) -> None:
    rows = ray.data.read_binary_files(job["photos"], include_paths=True).map_batches(
        Enhance,
        fn_constructor_kwargs={**job["enhance"], "timeout": Timeout(attempt=30)},
        batch_size=job["batch_size"],
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=job["workers"]),
        num_cpus=0.5,
    )
    for row in rows.take_all():
        # Of an image only how it begins: the other columns are what is asked about.
        sys.stdout.write(json.dumps({**row, "image": row["image"][:8].hex()}) + "\n")


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    ray.init(
        num_cpus=2,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=asked["folder"],
    )
    try:
        run(asked)
    finally:
        ray.shutdown()
