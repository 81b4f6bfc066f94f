"""Queries a condensed set with SQL: DuckDB reads the Arrow shards, and so does every language with an Arrow library.

python examples/query_with_duckdb.py runs/demo/condensed
"""

import argparse
from pathlib import Path

import duckdb
import pyarrow as pa

QUERY = """
SELECT label, class_name, count(*) AS images, round(avg(list_avg(image)), 3) AS brightness
FROM shards
GROUP BY label, class_name
ORDER BY label
"""


def main() -> None:
    """Prints the mean brightness of every class."""
    parser = argparse.ArgumentParser(description="Query a condensed set with SQL.")
    parser.add_argument("set", type=Path, help="folder with manifest.json and the shards")
    options = parser.parse_args()
    files = sorted(options.set.glob("shard-*.arrow"))
    tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in files]
    # DuckDB sees an image as a list of its pixels, row by row of each channel. It finds the table by the name in the query.
    shards = pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
    print(duckdb.sql(QUERY))
    print(f"{shards.num_rows} images in {len(files)} shards")


if __name__ == "__main__":
    main()
