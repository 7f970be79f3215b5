"""What keeps an exercise whole: the rules behind `mlekit dev check`, and `new_stage`.

Each rule takes a draft of a stage and yields sentences: the file, what is wrong, what to do. A stage that cannot be read
is one such sentence, never a traceback.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import unquote

from grader import home, stages
from grader.pages import Page
from grader.scaffold import NotPossible, new_stage
from grader.stages import Stage
from grader.verdict import CheckSpec, Grade, Outcome

__all__ = ["RULES", "NotPossible", "dev_check", "new_stage"]

SECTIONS = (
    "Your task", "The grader will run your program like this", "What you may ignore for now", "Read on",
)  # fmt: skip
TEXTS = ("README.md", "hints.md", "explained.md")
SHARED_TEXTS = ("README.md", "CONTRACT.md")  # of the exercises folder
HINTS = ("1", "2", "3")
HINT_PARAGRAPHS = 2
PLACEHOLDER = "TODO:"
NAME = re.compile(r"[A-Za-z_][\w./-]*")
FILE_ENDINGS = frozenset({"ipynb", "toml", "json", "parquet", "md", "py", "csv", "txt", "lock", "html", "yaml"})
RUNNABLE = ("python", "run")  # the words behind the fence of a block that is run
BLOCK_SECONDS = 60
CORES = 2

Watch = Callable[[str], None]


def dev_check(
    stage_names: Sequence[str],
    root: Path | None = None,
    grade: bool = True,
    watch: Watch = lambda sentence: None,
) -> list[str]:
    """Look for what is missing or wrong in stages and return it as sentences; none means all is well.

    `stage_names` are numbers, names or folders, and none of them means all stages. `root` is the kit whose exercises,
    checks and pool are looked at (by default this one); grading uses the checks of the running kit. With `grade` the
    starter and the solution of each stage are really graded. `watch` is told what is looked at. Raises UnknownStage.
    """
    kit = Kit(root or home.kit_home())
    chosen = kit.choose(stage_names)
    watch("what all stages share")
    problems = list(kit.problems(chosen))
    for stage in kit.stages:
        if stage.folder not in chosen:
            continue
        draft = Draft(kit, stage)
        watch(f"{stage.folder.name}: texts, checks and mutants")
        for rule in STAGE_RULES:
            problems += rule(draft)
        for part in ("starter", "solution") if grade else ():
            watch(f"{stage.folder.name}: grading the {part}")
            problems += grading(draft, part)
    return problems


class Kit:
    """A tree of exercises with its checks and its pool of wrong submissions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exercises = root / "exercises"
        self.folders = sorted(p for p in self.exercises.glob("[0-9][0-9]-*") if p.is_dir())
        own = root / "grader" / "checks"
        self.checks = own if own.is_dir() else home.PACKAGE / "checks"
        self.mutants = root / "tests" / "pool" / "mutants"
        self.pages: dict[Path, Page] = {}
        self.unreadable: dict[Path, str] = {}
        self.stages: list[Stage] = []
        for folder in self.folders:
            try:
                self.stages.append(_typed(stages._read(folder / "stage.toml")))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
                self.unreadable[folder] = _toml_problem(problem)

    def page(self, path: Path) -> Page | None:
        """A page, parsed once; None if it is not there."""
        path = Path(os.path.normpath(path))
        if path not in self.pages and path.is_file():
            self.pages[path] = Page(path)
        return self.pages.get(path)

    @cached_property
    def check_ids(self) -> frozenset[str]:
        return frozenset(check.id for stage in self.stages for check in stage.checks)

    @cached_property
    def contract_names(self) -> frozenset[str]:
        """What the contract spells between backticks, and the folders of its files."""
        page = self.page(self.exercises / "CONTRACT.md")
        words = page.code_words if page else set()
        return frozenset(words | {word[: word.rindex("/") + 1] for word in words if "/" in word})

    def choose(self, names: Sequence[str]) -> list[Path]:
        """The folders of the named stages. Raises UnknownStage."""
        return [self._find(name) for name in names] if names else self.folders

    def _find(self, name: str) -> Path:
        wanted = name.strip().lower().rstrip("/")
        for folder in self.folders:
            number, _, rest = folder.name.partition("-")
            if wanted in (folder.name, number, number.lstrip("0"), rest):
                return folder
        known = ", ".join(folder.name for folder in self.folders)
        raise stages.UnknownStage(f"there is no stage {name!r}; the stages are {known}")

    def problems(self, chosen: Iterable[Path]) -> Iterator[str]:
        """What is wrong with the chosen stages' definitions and with what all stages share."""
        yield from readable(self, chosen)
        for rule in KIT_RULES:
            yield from rule(self)

    def said(self, path: Path, problem: str, line: int | None = None) -> str:
        """One sentence about a file."""
        where = path.relative_to(self.root) if path.is_relative_to(self.root) else Path(*path.parts[-3:])
        return f"{where.as_posix()}{f':{line}' if line else ''}: {problem}"


@dataclass(frozen=True)
class Draft:
    """One stage of a kit, under review."""

    kit: Kit
    stage: Stage

    @property
    def module(self) -> Path:
        return self.kit.checks / f"{self.stage.module}.py"

    @property
    def ids(self) -> list[str]:
        return [check.id for check in self.stage.checks]

    def pages(self, *names: str) -> Iterator[Page]:
        """Those of the stage's pages that are there; that one is missing is said by another rule."""
        for name in names or TEXTS:
            if page := self.kit.page(self.stage.folder / name):
                yield page

    def said(self, name: str | Path, problem: str, line: int | None = None) -> str:
        return self.kit.said(self.stage.folder / name, problem, line)


# What all stages share


def readable(kit: Kit, chosen: Iterable[Path]) -> Iterator[str]:
    """stage.toml is there and can be read."""
    for folder in chosen:
        if folder in kit.unreadable:
            yield kit.said(folder / "stage.toml", kit.unreadable[folder])


def contract_is_written(kit: Kit) -> Iterator[str]:
    """CONTRACT.md and the schemas are what the contract as data gives."""
    from grader.contract import document

    wanted = {"CONTRACT.md": document.contract(), **{f"schemas/{n}": text for n, text in document.schemas().items()}}
    for name, text in wanted.items():
        path = kit.exercises / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield kit.said(
                path, "is not what the contract in grader/contract/ says; run `python -m grader.contract.document`"
            )


def shared_links_lead_somewhere(kit: Kit) -> Iterator[str]:
    """Links of the map and of the contract resolve."""
    for name in SHARED_TEXTS:
        if page := kit.page(kit.exercises / name):
            yield from _dead_links(kit, page)


def reference_is_all_solutions(kit: Kit) -> Iterator[str]:
    """reference_solution/ is the solutions laid over one another, where it is there."""
    from grader.overlays import overlay
    from grader.submission import files_of

    reference = kit.root / "reference_solution"
    if not reference.is_dir() or kit.unreadable:
        return
    merged = {path: source for stage in kit.stages for path, source in overlay(stage, "solution")}
    for path, source in merged.items():
        copy = reference / path
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            yield kit.said(copy, f"is not what the solutions give; copy {source.relative_to(kit.root).as_posix()}")
    for copy in files_of(reference):
        if copy.relative_to(reference) not in merged:
            yield kit.said(copy, "is in no solution; add it to the one of its stage, or remove it")


def _typed(stage: Stage) -> Stage:
    """The stage, if every value is of its type. Raises ValueError."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(Stage).validate_json(json.dumps(asdict(stage), default=str), strict=True)
    except ValidationError as problem:
        first = problem.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return stage


def _toml_problem(problem: Exception) -> str:
    """What is wrong with a stage.toml, in words."""
    match problem:
        case FileNotFoundError():
            return "is missing; write it, or make the folder with `mlekit dev new-stage`"
        case KeyError():
            return f"the key {problem} is missing; the stages that are there show what it holds"
        case TypeError():
            known = ", ".join(f.name for f in fields(CheckSpec) if f.name != "stage")
            return f"cannot be read ({problem}); the keys of a [[check]] are {known}"
        case _:
            return f"cannot be read ({problem}); correct it"


# The texts of a stage


def texts_exist(draft: Draft) -> Iterator[str]:
    """Brief, hints and explanation are there."""
    for name in TEXTS:
        if not (draft.stage.folder / name).is_file():
            yield draft.said(name, "is missing; write it")


def brief_has_its_shape(draft: Draft) -> Iterator[str]:
    """The brief begins with number, name and hours, and has the sections that all briefs have, in their order."""
    stage = draft.stage
    for page in draft.pages("README.md"):
        title = f"{stage.id} {stage.name}: "
        if not any(section.heading.startswith(title) for section in page.sections(1)):
            yield draft.said("README.md", f"does not begin with `# {title}...`; give it that title")
        if f"About {stage.hours:g} hour" not in page.text:
            wanted = f"About {stage.hours:g} hour{'' if stage.hours == 1 else 's'}"
            yield draft.said("README.md", f"does not say `{wanted}` as stage.toml does; make them agree")
        found = [section.heading for section in page.sections(2)]
        if found != list(SECTIONS):
            yield draft.said(
                "README.md", f"has the sections {_listed(found)}; a brief has {_listed(SECTIONS)}, in this order"
            )


def hints_help(draft: Draft) -> Iterator[str]:
    """There are three hints under a question each, and a section for each required check."""
    for page in draft.pages("hints.md"):
        sections = {section.heading.partition(" ")[0]: section for section in page.sections(2)}
        for number in HINTS:
            section = sections.get(number)
            if section is None:
                yield draft.said("hints.md", f"hint {number} is missing; write `## {number} <a short question>`")
            elif not section.heading.endswith("?") or not 1 <= section.paragraphs <= HINT_PARAGRAPHS:
                yield draft.said(
                    "hints.md", "a hint is a question and one or two paragraphs; rewrite it as that", section.line
                )
        for check in draft.stage.checks:
            if check.required and check.id not in sections:
                yield draft.said(
                    "hints.md", f"the required check {check.id} has no section; write `## {check.id}` and one paragraph"
                )
        for heading, section in sections.items():
            if heading in draft.ids and (section.heading != heading or section.paragraphs != 1):
                yield draft.said(
                    "hints.md", f"the section of {heading} is its id and one paragraph; shorten it", section.line
                )
            elif heading not in (*HINTS, *draft.ids):
                yield draft.said(
                    "hints.md", f"`## {section.heading}` is neither hint 1 to 3 nor a check of this stage; remove it",
                    section.line,
                )  # fmt: skip


def check_ids_exist(draft: Draft) -> Iterator[str]:
    """Whatever a text spells like a check is one, or a name of the contract."""
    known = draft.kit.check_ids
    meant = known | draft.kit.contract_names
    prefixes = "|".join(sorted({re.escape(id_.partition(".")[0]) for id_ in known}))
    like_a_check = re.compile(rf"(?<![\w/.-])(?:{prefixes})\.([a-z_]+)\b(?!\.\w|[/(])")
    for page in draft.pages():
        for line, text in page.words:
            for match in like_a_check.finditer(text):
                if match[0] not in meant and match[1] not in FILE_ENDINGS:
                    yield draft.said(page.path, f"there is no check {match[0]}; name one of stage.toml", line)


def table_names_are_in_the_contract(draft: Draft) -> Iterator[str]:
    """Variables, files and columns in tables of the brief are spelled as in the contract."""
    for page in draft.pages("README.md"):
        for line, name in page.table_names:
            if NAME.fullmatch(name) and name not in draft.kit.contract_names:
                yield draft.said(
                    "README.md",
                    f"`{name}` is not in CONTRACT.md; spell it as there, or add it to grader/contract/",
                    line,
                )


def links_lead_somewhere(draft: Draft) -> Iterator[str]:
    """Relative links resolve, to a heading where they name one."""
    for page in draft.pages():
        yield from _dead_links(draft.kit, page)


def _dead_links(kit: Kit, page: Page) -> Iterator[str]:
    for line, link in page.links:
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = page.path.parent / name if name else page.path
        if not target.exists():
            yield kit.said(page.path, f"the link {link} leads nowhere; correct it", line)
        elif anchor and target.suffix == ".md" and (found := kit.page(target)) and anchor not in found.anchors:
            yield kit.said(page.path, f"the link {link} names a heading that is not there; correct it", line)


def code_works(draft: Draft) -> Iterator[str]:
    """Python blocks compile, and those marked `python run` end well as a script in an empty folder."""
    for page in draft.pages():
        for block in page.blocks:
            if block.info[:1] != RUNNABLE[:1]:
                continue
            try:
                compile(block.code, str(page.path), "exec")
            except (SyntaxError, ValueError) as problem:
                yield draft.said(page.path, f"the Python block does not compile ({problem}); correct it", block.line)
                continue
            if block.info[:2] == RUNNABLE and (ended := _run(block.code)):
                yield draft.said(page.path, f"the runnable block {ended}; correct it", block.line)


@cache
def _run(code: str) -> str | None:
    """Run a block as a script in an empty folder; what went wrong, or None. The same block is run once a process."""
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / "block.py"
        empty = Path(scratch) / "empty"
        empty.mkdir()
        script.write_text(code, encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, script], cwd=empty, capture_output=True, text=True, timeout=BLOCK_SECONDS, check=False,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"did not end within {BLOCK_SECONDS} s"
    if done.returncode == 0:
        return None
    return f"failed ({(done.stderr.strip().splitlines() or ['without a word'])[-1]})"


def map_names_the_stage(draft: Draft) -> Iterator[str]:
    """exercises/README.md, the map, links to the brief."""
    path, link = draft.kit.exercises / "README.md", f"{draft.stage.folder.name}/README.md"
    page = draft.kit.page(path)
    if page is None or link not in {target for _, target in page.links}:
        yield draft.kit.said(path, f"does not link to {link}; add a row to its table")


def nothing_is_left_to_write(draft: Draft) -> Iterator[str]:
    """No placeholder stands in what an author writes; in a starter it belongs to the learner."""
    folder = draft.stage.folder
    solution = sorted(p for p in (folder / "solution").rglob("*") if p.suffix in (".py", ".ipynb", ".toml", ".md"))
    written = [*(folder / name for name in (*TEXTS, "stage.toml")), *solution, draft.module, _mutants_of(draft)]
    for path in written:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        for number, line in enumerate(lines, 1):
            if PLACEHOLDER in line:
                rest = line[line.index(PLACEHOLDER) :].rstrip(' "`*\\n,]}')
                yield draft.kit.said(path, f"{rest} (write it and remove the {PLACEHOLDER[:-1]})", number)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words) or "none"


# The checks of a stage and what proves them


def rows_are_in_the_rubric(draft: Draft) -> Iterator[str]:
    """Each check counts in a row that there is."""
    from grader.rubric import load

    rows = [row.id for row in load().rows]
    for check in draft.stage.checks:
        if check.row not in rows:
            yield draft.said("stage.toml", f"{check.id} counts in row {check.row!r}; the rows are {', '.join(rows)}")


def something_is_required(draft: Draft) -> Iterator[str]:
    """A stage without a required check would be complete before it is begun."""
    if not any(check.required for check in draft.stage.checks):
        yield draft.said("stage.toml", "requires no check; give `required = true` to those that a learner must pass")


def checks_are_bound(draft: Draft) -> Iterator[str]:
    """Each check of stage.toml is a function of the module, and the other way round."""
    bound = _bound(draft)
    if isinstance(bound, str):
        yield draft.kit.said(draft.module, bound)
        return
    for id_ in draft.ids:
        if id_ not in bound:
            yield draft.said(
                "stage.toml", f'no function is bound to {id_}; write one under `@check("{id_}")` in {draft.module.name}'
            )
    for id_, function in bound.items():
        if id_ not in draft.ids:
            yield draft.kit.said(
                draft.module, f"{function.name} is bound to {id_}, which stage.toml does not list; add it there",
                function.lineno,
            )  # fmt: skip


def checks_say_what_they_catch(draft: Draft) -> Iterator[str]:
    """The docstring of a check lists wrong designs it catches and an odd right one it accepts."""
    bound = _bound(draft)
    for function in bound.values() if isinstance(bound, dict) else ():
        said = ast.get_docstring(function) or ""
        if not ("Catches:" in said and "Accepts:" in said):
            yield draft.kit.said(
                draft.module, f"the docstring of {function.name} lacks `Catches:` or `Accepts:`; write both",
                function.lineno,
            )  # fmt: skip


def _bound(draft: Draft) -> dict[str, ast.FunctionDef] | str:
    """The functions under `@check("...")` by id, read without importing; or what is wrong with the module."""
    try:
        tree = ast.parse(draft.module.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "is missing; write the module that stage.toml names"
    except (OSError, SyntaxError, ValueError) as problem:
        return f"cannot be read as Python ({problem}); correct it"
    return {id_: node for node in tree.body if isinstance(node, ast.FunctionDef) for id_ in _ids_of(node)}


def _ids_of(function: ast.FunctionDef) -> Iterator[str]:
    """The ids a function is bound to."""
    for decorator in function.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="check"), args=[ast.Constant(value=str(id_)), *_]):
                yield id_


def checks_have_mutants(draft: Draft) -> Iterator[str]:
    """Each check has a mutant that only it kills, where the pool is there."""
    if not draft.kit.mutants.is_dir():
        return
    path = _mutants_of(draft)
    try:
        kills = [set(entry["kills"]) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]]
    except FileNotFoundError:
        yield draft.kit.said(path, "is missing; write one mutant for each check")
        return
    except (OSError, ValueError, KeyError, TypeError) as problem:
        yield draft.kit.said(path, f"cannot be read ({problem!r}); each [[mutant]] has a name, kills and edits")
        return
    for id_ in draft.ids:
        if {id_} not in kills:
            yield draft.kit.said(path, f'no mutant is killed by {id_} alone; write one with `kills = ["{id_}"]`')
    for id_ in sorted(set().union(*kills) - draft.kit.check_ids):
        yield draft.kit.said(path, f"a mutant is killed by {id_}, which is no check; name one of stage.toml")


def _mutants_of(draft: Draft) -> Path:
    return draft.kit.mutants / f"{draft.stage.id}.toml"


# Starter and solution, really graded


def grading(draft: Draft, part: str) -> Iterator[str]:
    """Lay down the checkpoint before the stage and one part of it, grade that, and say what should not be so."""
    from grader.engine import Plan, grade
    from grader.overlays import lay_down
    from grader.sandbox import detect
    from grader.submission import UnusableSubmission

    stage = draft.stage
    seed = zlib.crc32(f"dev check {part} {stage.id}".encode())  # the same world each time
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch) / "work"
        work.mkdir()
        for earlier in draft.kit.stages:
            if earlier.id < stage.id:
                lay_down(earlier, "solution", work)
        lay_down(stage, part, work)
        try:
            result = grade(Plan(work, stage.checks, seed, str(seed), detect().rung, CORES))
        except (UnusableSubmission, OSError) as problem:
            yield draft.said(part, f"cannot be graded ({problem}); correct it")
            return
    yield from JUDGES[part](draft, result)


def starter_fails_with_reasons(draft: Draft, result: Grade) -> Iterator[str]:
    """A starter leaves something to do, and each verdict tells the learner what in a sentence."""
    required = [check for check in result.checks if check.required]
    if required and all(check.outcome is Outcome.PASS for check in required):
        yield draft.said("starter", "passes every required check; take out what the learner is to write")
    for check in result.checks:
        if check.outcome is Outcome.GRADER_ERROR:
            yield draft.said("starter", f"{check.id} itself failed on it: {check.reason}; correct the check")
        elif not check.reason or "Traceback" in check.reason:
            yield draft.said("starter", f"{check.id} does not give a reason in a sentence; correct the check")


def solution_passes(draft: Draft, result: Grade) -> Iterator[str]:
    """The checkpoint passes every check that this machine can run."""
    for check in result.checks:
        if check.outcome not in (Outcome.PASS, Outcome.NOT_RUN):
            yield draft.said(
                "solution", f"{check.id} ends with {check.outcome}: {check.reason}; correct the solution or the check"
            )


JUDGES = {"starter": starter_fails_with_reasons, "solution": solution_passes}
KIT_RULES = (contract_is_written, shared_links_lead_somewhere, reference_is_all_solutions)
STAGE_RULES = (
    texts_exist,
    brief_has_its_shape,
    hints_help,
    check_ids_exist,
    table_names_are_in_the_contract,
    links_lead_somewhere,
    code_works,
    map_names_the_stage,
    rows_are_in_the_rubric,
    something_is_required,
    checks_are_bound,
    checks_say_what_they_catch,
    checks_have_mutants,
    nothing_is_left_to_write,
)
RULES = (readable, *KIT_RULES, *STAGE_RULES)
