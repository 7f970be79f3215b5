"""The throw-away reader: opens one file that a submission wrote and hands on plain JSON; runs inside the sandbox.

    python read.py parquet FILE ANSWER MAX_ROWS MAX_VALUES
    python read.py json FILE ANSWER MAX_BYTES
    python read.py folder FOLDER ANSWER MAX_FILES MAX_FILE_BYTES MAX_ROWS MAX_VALUES MAX_JSON_BYTES
    python read.py search FOLDER ANSWER MAX_FILES MAX_FILE_BYTES MAX_ROWS MAX_VALUES WANTED

A crafted file can at most take over this process, which sees that file or folder, nothing else, and no network.
"""

import json
import os
import stat
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
        columns[name] = {"type": said, "values": plain(column)}
    return {"rows": table.num_rows, "columns": columns}


def plain(column):
    """The values of a column; text that is not UTF-8 is shown with marks in it."""
    import pyarrow as pa

    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [None if v is None else v.decode("utf-8", "replace") for v in column.cast(pa.binary()).to_pylist()]


def read_json(path, max_bytes):
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        return {"problem": f"it is larger than {max_bytes} bytes"}
    return {"value": json.loads(data.decode("utf-8"))}


def files_of(folder, max_files, max_bytes):
    """Yield each file below a folder by its relative path, and what is wrong with it; links are not followed."""
    count, size = 0, 0
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*names, *folders]):
            path = os.path.join(where, name)
            if name in folders and not stat.S_ISLNK(os.lstat(path).st_mode):
                continue
            found = os.lstat(path)
            count, size = count + 1, size + found.st_size
            if count > max_files or size > max_bytes:
                raise ValueError(f"the folder holds more than {max_files} files or {max_bytes >> 20} MB")
            wrong = None if stat.S_ISREG(found.st_mode) else "is no regular file; links are not followed"
            yield os.path.relpath(path, folder), path, wrong


def read_folder(folder, max_files, max_bytes, max_rows, max_values, max_json):
    """Every table and JSON file below a folder; other files are only named."""
    files = {}
    for name, path, wrong in files_of(folder, max_files, max_bytes):
        answer = {"problem": wrong} if wrong else {}
        try:
            if name.endswith(".parquet") and not wrong:
                answer = read_parquet(path, max_rows, max_values)
                max_values -= answer.get("rows", 0) * len(answer.get("columns", ()))
            elif name.endswith(".json") and not wrong:
                answer = read_json(path, max_json)
        except Exception as problem:
            answer = {"problem": f"could not be read: {type(problem).__name__}: {str(problem)[:300]}"}
        files[name] = answer
    return {"files": files}


def search_folder(folder, max_files, max_bytes, max_rows, max_values, wanted):
    """Which of the wanted texts stand in which files: in their bytes, in the cells and in the metadata of tables."""
    with open(wanted, encoding="utf-8") as file:
        texts = json.load(file)
    forms = [[text.lower().encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")] for text in texts]
    hits = []
    for name, path, wrong in files_of(folder, max_files, max_bytes):
        found = [name.lower().encode("utf-8", "replace")]
        if not wrong:
            with open(path, "rb") as file:
                found.append(file.read().lower())
            if found[1].startswith(b"par1"):
                found.append(cells_of(path, max_rows, max_values).lower())
        hits += [
            [name, i] for i, spelled in enumerate(forms) if any(form in part for form in spelled for part in found)
        ]
    return {"hits": hits[:1000]}


def cells_of(path, max_rows, max_values):
    """Whatever a table says in words, as bytes: names, metadata, and the values that are no plain numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    if file.metadata.num_rows > max_rows or file.metadata.num_rows * file.metadata.num_columns > max_values:
        raise ValueError("it holds more rows or columns than are read")
    said = [repr(file.schema_arrow.metadata), repr(file.metadata.metadata)]
    for field, column in zip(file.schema_arrow, file.read().columns, strict=True):
        said += [field.name, repr(field.metadata)]
        if pa.types.is_primitive(column.type):
            continue
        if pa.types.is_string(column.type):
            column = column.cast(pa.binary())
        for value in column.to_pylist():
            said.append(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
    return "\n".join(said).encode("utf-8", "replace")


READ = {"parquet": read_parquet, "json": read_json, "folder": read_folder, "search": search_folder}


def main(kind, path, answer, *limits):
    try:
        result = READ[kind](path, *(int(limit) if limit.isdigit() else limit for limit in limits))
    except Exception as problem:
        result = {"problem": f"{type(problem).__name__}: {str(problem)[:300]}"}
    with open(answer, "w", encoding="utf-8") as file:
        file.write(json.dumps(result))  # several times faster than json.dump


if __name__ == "__main__":
    main(*sys.argv[1:])
