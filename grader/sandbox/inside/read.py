"""The throw-away reader: opens one file that a submission wrote and hands on plain JSON; runs inside the sandbox.

    python read.py parquet FILE ANSWER MAX_ROWS MAX_VALUES
    python read.py json FILE ANSWER MAX_BYTES
    python read.py folder FOLDER ANSWER MAX_FILES MAX_FILE_BYTES MAX_ROWS MAX_VALUES MAX_JSON_BYTES
    python read.py search FOLDER ANSWER MAX_FILES MAX_FILE_BYTES MAX_ROWS MAX_VALUES WANTED
    python read.py store FOLDER ANSWER MAX_ROWS MAX_VALUES RUN_ID MODEL_URI
    python read.py registry FOLDER ANSWER MODEL_NAME
    python read.py lines FILE ANSWER MAX_BYTES
    python read.py printed FILE ANSWER MAX_BYTES
    python read.py metrics FILE ANSWER MAX_BYTES
    python read.py page FILE ANSWER MAX_BYTES ATTRIBUTE

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
    return {"value": json.loads(data.decode("utf-8"), parse_int=whole)}


LONGEST_NUMBER = 40  # digits


def whole(text):
    """A whole number; one of more digits than anybody counts is none, since Python can neither add nor show all that it can read."""
    return int(text) if len(text) <= LONGEST_NUMBER else float(text)


def read_lines(path, max_bytes):
    """Each line of a file as JSON; a line that is none is a problem of its own."""
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        return {"problem": f"it is larger than {max_bytes} bytes"}
    lines = []
    for line in data.split(b"\n"):
        try:
            if line.strip():
                lines.append({"value": json.loads(line.decode("utf-8"), parse_int=whole)})
        except ValueError:
            lines.append({"problem": "is no JSON"})
    return {"lines": lines}


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
            elif found[1].startswith(b"pk\x03\x04"):
                found.append(members_of(path, max_bytes).lower())
        hits += [
            [name, i] for i, spelled in enumerate(forms) if any(form in part for form in spelled for part in found)
        ]
    return {"hits": hits[:1000]}


def members_of(path, max_bytes):
    """The files packed into a ZIP archive, as models are, one after the other."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > max_bytes:
            raise ValueError("a ZIP archive holds more than is read")
        return b"\n".join(archive.read(member) for member in archive.infolist())


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


MOST_RUNS, MOST_ENTRIES, LONGEST = 100, 2000, 2000  # of an MLflow store: runs, entries of a run, characters of one
MOST_SERIES = 5_000  # of metrics
MOST_TRIES = 50  # to read an object, of one line
MAX_DATABASE, MAX_MLMODEL = 64 << 20, 1 << 20


def read_store(folder, max_rows, max_values, run_id, model_uri):
    """The runs of an MLflow store, and of one run what was logged; a model is described, never loaded.

    MLflow keeps absolute paths, so the folder is seen where the submission saw it.
    """
    connection = open_database(folder)
    ask = lambda text, *values: connection.execute(text, values).fetchmany(MOST_ENTRIES)  # noqa: E731
    try:
        runs = {
            str(row[0]): {"status": row[1], "deleted": row[2] != "active", "experiment": row[3], "artifacts": row[4]}
            for row in ask(
                "SELECT run_uuid, status, r.lifecycle_stage, e.name, artifact_uri FROM runs r "
                "LEFT JOIN experiments e ON r.experiment_id = e.experiment_id ORDER BY start_time"
            )[:MOST_RUNS]
        }
        answer = {
            "runs": {name: {k: run[k] for k in ("status", "deleted", "experiment")} for name, run in runs.items()}
        }
        if run_id in runs:
            answer["run"] = {
                "params": dict(ask("SELECT key, value FROM params WHERE run_uuid = ?", run_id)),
                "tags": dict(ask("SELECT key, value FROM tags WHERE run_uuid = ?", run_id)),
                "metrics": {
                    key: None if nan else value
                    for key, value, nan in ask(
                        "SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?", run_id
                    )
                },
                "validation": attempt(
                    lambda: read_parquet(
                        inside(f"{runs[run_id]['artifacts']}/validation.parquet", folder), max_rows, max_values
                    )
                ),
                "model": attempt(lambda: read_model(model_folder(ask, runs, model_uri), folder)),
            }
        return shortened(answer)
    finally:
        connection.close()


def read_registry(folder, name):
    """The versions and aliases of a registered model in an MLflow store."""
    connection = open_database(folder)
    ask = lambda text: connection.execute(text, (name,)).fetchmany(MOST_ENTRIES)  # noqa: E731
    try:
        rows = ask("SELECT version, run_id, source, current_stage FROM model_versions WHERE name = ? ORDER BY version")
        versions = {
            str(v): {"run": run, "source": source, "deleted": stage == DELETED} for v, run, source, stage in rows
        }
        aliases = ask("SELECT alias, version FROM registered_model_aliases WHERE name = ?")
        return shortened({"versions": versions, "aliases": {alias: str(version) for alias, version in aliases}})
    finally:
        connection.close()


DELETED = "Deleted_Internal"  # the stage of a version that was deleted, as MLflow's store has it


def open_database(folder):
    """The database for reading only, whatever state its writer left it in."""
    import sqlite3
    import urllib.parse

    path = os.path.join(folder, "mlflow.db")
    found = os.lstat(path) if os.path.lexists(path) else None
    if found is None or not stat.S_ISREG(found.st_mode) or found.st_size > MAX_DATABASE:
        raise ValueError("there is no mlflow.db, or it is no file of a usual size")

    def opened(mode):
        connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?{mode}", uri=True)
        connection.execute("SELECT version_num FROM alembic_version").fetchall()
        return connection

    left = [path + ending for ending in ("-journal", "-wal") if os.path.exists(path + ending)]
    try:
        return opened("mode=ro")
    except sqlite3.OperationalError:
        if any(os.lstat(name).st_size for name in left):
            raise
        return opened("mode=ro&immutable=1")  # one in another journal mode wants to write beside it


def attempt(read):
    try:
        return read()
    except FileNotFoundError:
        return {"problem": "was not logged"}
    except Exception as problem:
        return {"problem": f"could not be read: {type(problem).__name__}: {str(problem)[:300]}"}


def inside(uri, folder):
    """The path of an artifact, which has to lie in the store's folder."""
    path = os.path.realpath(uri.removeprefix("file://"))
    if not path.startswith(os.path.realpath(folder) + os.sep):
        raise ValueError("it lies outside the folder of the store")
    return path


def model_folder(ask, runs, uri):
    """Where a model's files are, by models:/ID or runs:/RUN/NAME."""
    kind, _, rest = uri.partition(":/")
    rest = rest.strip("/")
    known = ask("SELECT 1 FROM sqlite_master WHERE name = 'logged_models'")
    found = []
    if kind == "models" and known:
        found = ask("SELECT artifact_location, status FROM logged_models WHERE model_id = ?", rest)
    if kind == "runs":
        run, _, name = rest.partition("/")
        where = "SELECT artifact_location, status FROM logged_models WHERE source_run_id = ? AND name = ? ORDER BY creation_timestamp_ms"
        found = ask(where, run, name) if known else []
        if not found and run in runs and name:
            found = [(f"{runs[run]['artifacts']}/{name}", None)]
    if not found:
        raise FileNotFoundError(uri)
    return found[-1][0]


def read_model(uri, folder):
    """What the file MLmodel says of a model."""
    import yaml

    path = inside(uri, folder)
    with open(os.path.join(path, "MLmodel"), "rb") as file:
        said = yaml.safe_load(file.read(MAX_MLMODEL))
    signature = said.get("signature") or {}
    example = (said.get("saved_input_example_info") or {}).get("artifact_path")
    return {
        "path": os.path.relpath(path, os.path.realpath(folder)),
        "pyfunc": "python_function" in (said.get("flavors") or {}),
        "inputs": names_of(signature.get("inputs")),
        "outputs": names_of(signature.get("outputs")),
        "example": bool(example) and os.path.exists(os.path.join(path, str(example))),
        "run": said.get("run_id"),
    }


def names_of(columns):
    """The names of the columns of one side of a signature; None where there is none."""
    return [str(column.get("name")) for column in json.loads(columns)][:MOST_ENTRIES] if columns else None


def shortened(value):
    """The same without endless texts and with plain values only."""
    if isinstance(value, dict):
        return {str(key)[:LONGEST]: shortened(part) for key, part in value.items()}
    if isinstance(value, list):
        return [shortened(part) for part in value]
    return value[:LONGEST] if isinstance(value, str) else value if isinstance(value, bool | int | float) else None


def read_printed(path, max_bytes):
    """The JSON objects in what a program printed, wherever in a line they stand: progress bars leave lines without an end."""
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        return {"problem": f"it is larger than {max_bytes} bytes"}
    decoder, found = json.JSONDecoder(parse_int=whole), []
    for line in data.decode("utf-8", "replace").splitlines():
        at, tries = line.find("{"), MOST_TRIES
        while at >= 0 and tries:
            tries -= 1
            try:
                value, at = decoder.raw_decode(line, at)
                found.append({"value": value})
            except (ValueError, RecursionError):
                at += 1
            at = line.find("{", at)
    return {"lines": found}


def read_metrics(path, max_bytes):
    """Answers to requests for metrics, `[{"format": content type, "text": ...}, ...]`, by the parser of their format."""
    answers = []
    for answer in read_json(path, max_bytes)["value"]:
        try:
            answers.append(families_of(answer["format"], answer["text"]))
        except Exception as problem:
            answers.append({"problem": f"{type(problem).__name__}: {str(problem)[:200]}"})
    return {"answers": answers}


def families_of(format, text):
    from prometheus_client import parser
    from prometheus_client.openmetrics import parser as openmetrics

    families, samples, seen = {}, [], set()
    parse = (
        openmetrics.text_string_to_metric_families if "openmetrics" in format else parser.text_string_to_metric_families
    )
    for family in parse(text):
        if not family.name.startswith("mlekit_"):
            continue
        families[family.name] = {"type": family.type, "help": family.documentation[:LONGEST]}
        for sample in family.samples:
            labels = {str(name): str(value) for name, value in sample.labels.items()}
            series = (sample.name, *sorted(labels.items()))
            if series in seen:
                return {"problem": f"the series {sample.name} {labels} is there twice"}
            if len(samples) >= MOST_SERIES:
                return {"problem": f"there are more than {MOST_SERIES} series"}
            seen.add(series)
            samples.append([sample.name, labels, float(sample.value)])
    return {"families": families, "samples": samples}


UNSEEN = {"script", "style", "template", "noscript", "head", "title"}
HIDDEN = ("display:none", "visibility:hidden")
VOID = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
}  # fmt: skip
LOADS = {
    "script": "src", "img": "src", "iframe": "src", "source": "src", "embed": "src", "audio": "src", "video": "src", "object": "data",
    "link": "href",
}  # fmt: skip
MOST_FLAGS = 200


def read_page(path, max_bytes, attribute):
    """What the marked elements of an HTML page say that are shown, and what it would load from elsewhere; no script runs."""
    from html.parser import HTMLParser

    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        return {"problem": f"it is larger than {max_bytes >> 20} MB"}
    said, loads = [], []

    class Page(HTMLParser):
        def __init__(self):
            super().__init__(convert_charrefs=True)
            self.open = []  # of elements that are open: name, whether hidden, the text that it collects

        def handle_starttag(self, tag, attrs):
            given = {name: value or "" for name, value in attrs}
            where = given.get(LOADS.get(tag, ""), "").strip()
            if where and not where.startswith(("data:", "about:", "#")):
                loads.append(f"<{tag}> {where[:200]}")
            if tag in VOID:
                return
            style = given.get("style", "").replace(" ", "").lower()
            hidden = tag in UNSEEN or "hidden" in given or any(way in style for way in HIDDEN)
            hidden = hidden or bool(self.open and self.open[-1][1])
            text = None
            if attribute in given and not hidden and len(said) < MOST_FLAGS:
                text = []
                said.append((given[attribute], text))
            self.open.append((tag, hidden, text))

        def handle_endtag(self, tag):
            if any(name == tag for name, _, _ in self.open):
                while self.open.pop()[0] != tag:
                    pass

        def handle_data(self, data):
            if self.open and not self.open[-1][1]:
                for _, _, text in self.open:
                    if text is not None:
                        text.append(data)

    page = Page()
    page.feed(data.decode("utf-8", "replace"))
    page.close()
    return {
        "flags": [[name[:LONGEST], " ".join("".join(text).split())[:20_000]] for name, text in said],
        "loads": loads[:20],
    }


READ = {
    "parquet": read_parquet, "json": read_json, "folder": read_folder, "search": search_folder, "store": read_store,
    "registry": read_registry, "lines": read_lines, "printed": read_printed, "metrics": read_metrics, "page": read_page,
}  # fmt: skip


def main(kind, path, answer, *limits):
    try:
        result = READ[kind](path, *(int(limit) if limit.isdigit() else limit.removeprefix(":") for limit in limits))
    except Exception as problem:
        result = {"problem": f"{type(problem).__name__}: {str(problem)[:300]}"}
    with open(answer, "w", encoding="utf-8") as file:
        file.write(json.dumps(result))  # several times faster than json.dump


if __name__ == "__main__":
    main(*sys.argv[1:])
