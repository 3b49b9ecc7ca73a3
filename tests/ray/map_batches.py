"""Ray Data over the same callables, in tasks and in actors; a program for a test to run."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from splinellm.ray import PredictBatch, SplineBatch


def main(folder: Path, model: str, classifier: str) -> None:
    """Read texts.parquet, and write a file for each format of batches."""
    ray.init("local", num_cpus=2, object_store_memory=100 << 20, include_dashboard=False)
    table = pq.read_table(folder / "texts.parquet")
    rows = ray.data.from_arrow([table.slice(0, 20), table.slice(20)])
    pool = ray.data.ActorPoolStrategy(size=2)
    in_tasks = rows.map_batches(SplineBatch(model), batch_format="pyarrow", num_cpus=0.5)
    in_actors = rows.map_batches(
        SplineBatch, fn_constructor_args=[model], compute=pool, batch_format="numpy", num_cpus=0.5
    )
    judged = rows.map_batches(
        PredictBatch,
        fn_constructor_args=[classifier],
        compute=pool,
        batch_format="pandas",
        num_cpus=0.5,
    )
    for name, found in (("pyarrow", in_tasks), ("numpy", in_actors), ("pandas", judged)):
        blocks = [pa.Table.from_pandas(one) for one in found.iter_batches(batch_format="pandas")]
        pq.write_table(
            pa.concat_tables(blocks, promote_options="default"), folder / f"{name}.parquet"
        )
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:4])
