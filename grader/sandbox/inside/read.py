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
from collections import Counter

MOST_LEVELS = 100  # of JSON: whoever gets it calls itself for each
LONGEST_PROBLEM = 300


class Wrong(ValueError):
    """What is wrong with a file, in words for whoever wrote it."""


def in_words(problem, path):
    """A problem in one line; `path` is what was read, and stands for itself in it."""
    if isinstance(problem, RecursionError):
        text = "it is nested too deeply"
    elif isinstance(problem, MemoryError):
        text = "it takes more memory to read than there is"
    elif isinstance(problem, UnicodeDecodeError):
        text = f"it is not UTF-8 text (byte {problem.start:,})"
    elif isinstance(problem, OSError) and problem.strerror and isinstance(problem.errno, int):
        text = problem.strerror
    else:
        text = str(problem) if isinstance(problem, Wrong) else f"{type(problem).__name__}: {problem}"
        text = text.replace(path, os.path.split(path)[1])
    return " ".join(text.split())[:LONGEST_PROBLEM]


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
    if twice := [name for name, times in Counter(table.column_names).items() if times > 1]:
        raise Wrong(f"it has more than one column {twice[0][:60]!r}")
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
    return {"value": value_of(data.decode("utf-8"))}


def value_of(text):
    """The value that JSON stands for. Raises ValueError and RecursionError."""
    return flat(json.loads(text, parse_int=whole))


def flat(value):
    """The same, unless it is nested deeper than whoever gets it can go."""
    row = [value]
    for _ in range(MOST_LEVELS):
        row = [
            part
            for one in row
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
        if not row:
            return value
    raise Wrong(f"it is nested more than {MOST_LEVELS} levels deep")


LONGEST_NUMBER = 40  # digits


def whole(text):
    """A whole number; one of more digits than anybody counts is none, since Python can neither add nor show all that it can read.

    One that is beyond all floats too is a fault of the file.
    """
    found = int(text) if len(text) <= LONGEST_NUMBER else float(text)
    if abs(found) == float("inf"):
        raise Wrong(f"it holds a whole number of {len(text.lstrip('-')):,} digits")
    return found


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
                lines.append({"value": value_of(line.decode("utf-8"))})
        except (ValueError, RecursionError):
            lines.append({"problem": "is no JSON"})
    return {"lines": lines}


def files_of(folder, max_files, max_bytes):
    """Yield each file below a folder by its relative path, and what is wrong with it; links are not followed.

    Not by `os.walk`, which calls itself for each folder until Python 3.12 and says nothing of one that it cannot list.
    """
    count, size, waiting = 0, 0, [folder]
    while waiting:
        where = waiting.pop()
        try:
            names = sorted(os.listdir(where))
        except FileNotFoundError:
            continue  # a service that goes on has removed it
        except OSError as problem:
            raise Wrong(f"the folder {shown(where, folder)} cannot be listed ({problem.strerror})") from None
        below = []
        for name in names:
            path = os.path.join(where, name)
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                continue
            except OSError as problem:
                raise Wrong(f"{shown(path, folder)} cannot be looked at ({problem.strerror})") from None
            if stat.S_ISDIR(found.st_mode):
                below.append(path)
                if len(below) + len(waiting) > MOST_FOLDERS:
                    raise Wrong(f"the folder holds more than {MOST_FOLDERS:,} folders")
                continue
            count, size = count + 1, size + found.st_size
            if count > max_files or size > max_bytes:
                raise Wrong(f"the folder holds more than {max_files} files or {max_bytes >> 20} MB")
            wrong = None if stat.S_ISREG(found.st_mode) else "is no regular file; links are not followed"
            yield os.path.relpath(path, folder), path, wrong
        waiting += reversed(below)


MOST_FOLDERS = 20_000


def shown(path, folder):
    """The path of a file below a folder, as it can be printed."""
    relative = os.path.relpath(path, folder)
    return repr(relative if len(relative) <= 100 else f"{relative[:40]}...{relative[-40:]}")


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
            answer = {"problem": f"could not be read: {in_words(problem, path)}"}
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
            try:
                found += contents_of(path, max_bytes, max_rows, max_values)
            except FileNotFoundError:
                pass  # a service that goes on has removed it
            except Exception as problem:
                raise Wrong(f"{shown(path, folder)} cannot be searched: {in_words(problem, path)}") from None
        hits += [
            [name, i] for i, spelled in enumerate(forms) if any(form in part for form in spelled for part in found)
        ]
    return {"hits": hits[:1000]}


def contents_of(path, max_bytes, max_rows, max_values):
    """The bytes of a file in lower case, and those of what is packed into it."""
    with open(path, "rb") as file:
        data = file.read(max_bytes)
    found = [data.lower(), unpacked(data, max_bytes).lower()]
    if found[0].startswith(b"par1"):
        found.append(cells_of(path, max_rows, max_values).lower())
    elif found[0].startswith(b"pk\x03\x04"):
        found.append(members_of(path, max_bytes).lower())
    return found


def unpacked(data, max_bytes):
    """What is in a file that is packed as logs are that were put away, as far as it is whole; nothing of any other."""
    import bz2
    import lzma
    import zlib

    kinds = {
        b"\x1f\x8b": lambda: zlib.decompressobj(31),
        b"BZh": bz2.BZ2Decompressor,
        b"\xfd7zXZ\x00": lzma.LZMADecompressor,
    }
    found = b""
    while kind := next((kind for opening, kind in kinds.items() if data.startswith(opening)), None):
        member = kind()
        try:
            found += member.decompress(data, max_bytes)
        except (OSError, zlib.error, lzma.LZMAError):
            break
        if len(found) >= max_bytes:
            raise Wrong("it is packed, and holds more than is read")
        data = member.unused_data
    return found


def members_of(path, max_bytes):
    """The files packed into a ZIP archive, as models are, one after the other."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > max_bytes:
            raise Wrong("a ZIP archive holds more than is read")
        return b"\n".join(archive.read(member) for member in archive.infolist())


def cells_of(path, max_rows, max_values):
    """Whatever a table says in words, as bytes: names, metadata, and the values that are no plain numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    if file.metadata.num_rows > max_rows or file.metadata.num_rows * file.metadata.num_columns > max_values:
        raise Wrong("it holds more rows or columns than are read")
    said = [repr(file.schema_arrow.metadata), repr(file.metadata.metadata)]
    for field, column in zip(file.schema_arrow, file.read().columns, strict=True):
        said += [field.name, repr(field.metadata)]
        if pa.types.is_primitive(column.type):
            continue
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = column.cast(pa.large_binary())
        for value in column.to_pylist():
            said.append(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
    return "\n".join(said).encode("utf-8", "replace")


MOST_RUNS, MOST_ENTRIES, LONGEST = 100, 2000, 2000  # of an MLflow store: runs, entries of a run, characters of one
MOST_SERIES = 5_000  # of metrics
MOST_TRIES = 50  # to read an object, of one line
MAX_DATABASE, MAX_MLMODEL = 64 << 20, 1 << 20
MAX_CELL, MOST_SECONDS = 4 << 20, 30  # of a database: bytes of one value, and for all questions together


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
                    ),
                    folder,
                ),
                "model": attempt(lambda: read_model(model_folder(ask, runs, model_uri), folder), folder),
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
    import time
    import urllib.parse

    end = time.monotonic() + MOST_SECONDS
    path = os.path.join(folder, "mlflow.db")
    found = os.lstat(path) if os.path.lexists(path) else None
    if found is None or not stat.S_ISREG(found.st_mode) or found.st_size > MAX_DATABASE:
        raise Wrong("there is no mlflow.db, or it is no file of a usual size")

    def opened(mode):
        connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?{mode}", uri=True)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL)
        connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)  # a view can have rows without end
        connection.execute("SELECT version_num FROM alembic_version").fetchall()
        return connection

    left = [path + ending for ending in ("-journal", "-wal") if os.path.exists(path + ending)]
    try:
        return opened("mode=ro")
    except sqlite3.OperationalError:
        if any(os.lstat(name).st_size for name in left):
            raise
        return opened("mode=ro&immutable=1")  # one in another journal mode wants to write beside it


def attempt(read, folder):
    try:
        return read()
    except FileNotFoundError:
        return {"problem": "was not logged"}
    except Exception as problem:
        return {"problem": f"could not be read: {in_words(problem, folder)}"}


def inside(uri, folder):
    """The path of an artifact, which has to lie in the store's folder."""
    if not isinstance(uri, str) or "\0" in uri:
        raise Wrong("where it lies is no path")
    path = os.path.realpath(uri.removeprefix("file://"))
    if not path.startswith(os.path.realpath(folder) + os.sep):
        raise Wrong("it lies outside the folder of the store")
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
        text = file.read(MAX_MLMODEL + 1)
    if len(text) > MAX_MLMODEL:
        raise Wrong(f"MLmodel is larger than {MAX_MLMODEL >> 20} MB")
    try:
        # Scalars stay text and keys are not merged: what a few lines of YAML can be made to stand for has no bound.
        said = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError as problem:
        raise Wrong(f"MLmodel is no YAML: {problem}") from None
    except RecursionError:
        raise Wrong("MLmodel is nested too deeply") from None
    said = table_in(said, "MLmodel")
    signature = table_in(said.get("signature"), "signature in MLmodel")
    example = table_in(said.get("saved_input_example_info"), "saved_input_example_info in MLmodel").get("artifact_path")
    run = said.get("run_id")
    return {
        "path": os.path.relpath(path, os.path.realpath(folder)),
        "pyfunc": "python_function" in table_in(said.get("flavors"), "flavors in MLmodel"),
        "inputs": names_of(signature.get("inputs"), "inputs"),
        "outputs": names_of(signature.get("outputs"), "outputs"),
        "example": isinstance(example, str) and example not in NOTHING and os.path.exists(os.path.join(path, example)),
        "run": run if isinstance(run, str) and run not in NOTHING else None,
    }


NOTHING = ("", "~", "null", "Null", "NULL")  # as YAML spells it


def table_in(value, name):
    """A mapping of a YAML file; an empty one where there is nothing."""
    if isinstance(value, dict):
        return value
    if (isinstance(value, str) and value in NOTHING) or value is None:
        return {}
    raise Wrong(f"{name} is {'a list' if isinstance(value, list) else 'text'}; it must be a mapping")


def names_of(columns, side):
    """The names of the columns of one side of a signature; None where there is none."""
    if columns is None or (isinstance(columns, str) and columns in NOTHING):
        return None
    try:
        found = value_of(columns) if isinstance(columns, str) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(column, dict) for column in found):
        raise Wrong(f"the {side} of the signature in MLmodel are no list of columns in JSON")
    return [str(column.get("name")) for column in found][:MOST_ENTRIES]


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
                value, end = decoder.raw_decode(line, at)
                found.append({"value": flat(value)})
                at = end
            except (ValueError, RecursionError):
                at += 1
            at = line.find("{", at)
    return {"lines": found}


def read_metrics(path, max_bytes):
    """Answers to requests for metrics, `[{"format": content type, "text": ...}, ...]`, by the parser of their format."""
    answers = []
    given = read_json(path, max_bytes)
    if "problem" in given:
        return given
    for answer in given["value"]:
        try:
            answers.append(families_of(answer["format"], answer["text"]))
        except Exception as problem:
            answers.append({"problem": in_words(problem, path)})
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
                raise Wrong(f"the series {sample.name[:60]} {str(labels)[:200]} is there twice")
            if len(samples) >= MOST_SERIES:
                raise Wrong(f"there are more than {MOST_SERIES} series")
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
            self.names = Counter()  # of those, how many of each name
            self.texts = []  # the texts that are being collected

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
                self.texts.append(text)
            self.open.append((tag, hidden, text))
            self.names[tag] += 1

        def handle_endtag(self, tag):
            closed = None
            while self.names[tag] and closed != tag:
                closed, _, text = self.open.pop()
                self.names[closed] -= 1
                if text is not None:
                    self.texts.pop()

        def handle_data(self, data):
            if self.open and not self.open[-1][1]:
                for text in self.texts:
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
        said = json.dumps(result)  # several times faster than json.dump
    except Exception as problem:
        said = json.dumps({"problem": in_words(problem, path)})
    with open(answer, "w", encoding="utf-8") as file:
        file.write(said)


if __name__ == "__main__":
    main(*sys.argv[1:])
