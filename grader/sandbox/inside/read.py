"""The throw-away reader: opens one file that a submission wrote and hands on plain JSON; runs inside the sandbox.

    python read.py parquet FILE ANSWER MAX_ROWS MAX_VALUES
    python read.py json FILE ANSWER MAX_BYTES

A crafted file can at most take over this process, which sees that file, nothing else, and no network.
"""

import json
import sys


def read_parquet(path, max_rows, max_values):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    if file.metadata.num_rows > max_rows:
        return {"problem": f"it has {file.metadata.num_rows} rows; at most {max_rows} are read"}
    if file.metadata.num_rows * file.metadata.num_columns > max_values:
        return {
            "problem": f"it has {file.metadata.num_columns} columns of {file.metadata.num_rows} rows, more than are read"
        }
    table = file.read()
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = column.type
        if pa.types.is_boolean(kind):
            said = "bool"
        elif pa.types.is_integer(kind):
            said = "int"
        elif pa.types.is_floating(kind):
            said, column = "float", column.cast(pa.float64())
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            said = "str"
        elif pa.types.is_timestamp(kind):
            said, column = "timestamp", column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
        else:
            columns[name] = {"type": str(kind), "values": None}
            continue
        columns[name] = {"type": said, "values": column.to_pylist()}
    return {"rows": table.num_rows, "columns": columns}


def read_json(path, max_bytes):
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        return {"problem": f"it is larger than {max_bytes} bytes"}
    return {"value": json.loads(data.decode("utf-8"))}


def main(kind, path, answer, *limits):
    try:
        result = {"parquet": read_parquet, "json": read_json}[kind](path, *map(int, limits))
    except Exception as problem:
        result = {"problem": f"{type(problem).__name__}: {str(problem)[:300]}"}
    with open(answer, "w", encoding="utf-8") as file:
        file.write(json.dumps(result))  # several times faster than json.dump


if __name__ == "__main__":
    main(*sys.argv[1:])
