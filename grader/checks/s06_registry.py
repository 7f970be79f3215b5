"""Stage 06, the registry: a gate that lets better models through and names what is wrong with others, and a way back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import stages, stores
from grader.checks import challengers, charts, predictions, running, tracked
from grader.checks.api import Fault, Finding, Grading, Owed, Work, check, failed, passed, work
from grader.checks.challengers import Case, Gate
from grader.checks.tracked import Logged
from grader.contract import OutputProblem, Refusal, parse_output
from grader.contract.features import Feature, FeatureProblem
from grader.contract.outputs import AuditRecord, GateDecision, Reason, RollbackRecord, VersionRecord
from grader.sandbox import Mount
from grader.sandbox.base import Argument
from grader.sandbox.reader import INSIDE, Unreadable
from grader.submission import Ran
from grader.verdict import Chart, Outcome
from grader.world import Rows, draw_rows, features, write_data, write_manifest
from grader.world.build import stream

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MONTHS, FLIGHTS_PER_MONTH, ROWS = 3, 3_000, 300  # learned from two, judged on the third
MODEL_NAME = "flight-delay"  # as in the use case that is published; here it has another one
NAMES_OF_MODELS = ("late-departures", "delay-risk", "arrival-odds", "punctuality")
FEW = (330, 470)  # landed flights that one airport has in the month of the gate: a small slice, and one to be looked at
BARS = stages.find("06").bars


@dataclass(frozen=True)
class Given:
    """The hidden data of this stage: `flights` are the gate's, with `late`; `rows` are scored by alias; `model` is its name.

    `evening` are those that belong to the gate's month in UTC, and to the one before by the clock on the wall.
    """

    data: Path
    settings: Path
    window: tuple[str, str]
    flights: pd.DataFrame
    evening: pd.DataFrame
    rows: Rows
    definitions: list[Feature]
    model: str


@work
def given(grading: Grading) -> Given:
    from grader.checks.s05_tracking import configure, labelled, last_day, own_features

    world = grading.world()
    data, settings = grading.folder("data"), grading.folder("given")
    first = int(stream(world.seed or 0, "registry months").integers(0, 3))
    months = world.months[first : first + MONTHS]
    rows = draw_rows(world, months[2:], ROWS, "registry")
    write_data(world, data, months, FLIGHTS_PER_MONTH, without=rows)
    thin_out(data / "flights" / f"{months[2]}.parquet", world.seed or 0)
    write_manifest(data)
    window = (f"{months[0]}-01", last_day(months[1]))
    configure(settings, window)
    model = name_the_model(settings / "usecase.toml", world.seed or 0)
    flights = labelled(data)
    in_month, in_utc = flights["day"].str.startswith(months[2]), flights["sched_dep"].dt.strftime("%Y-%m") >= months[2]
    of_gate, evening = (flights[chosen].reset_index(drop=True) for chosen in (in_month, in_utc & ~in_month))
    return Given(data, settings, window, of_gate, evening, rows, own_features(grading), model)


def thin_out(path: Path, seed: int) -> None:
    """Leave only few of the flights of one airport in a month."""
    import numpy as np
    import pyarrow.parquet as pq

    draw, table = stream(seed, "flights of the small airport"), pq.read_table(path)
    origin = table.column("origin").to_numpy(zero_copy_only=False)
    landed = np.asarray(table.column("arr_delay_min").is_valid())
    of_one = draw.permutation(np.flatnonzero(origin == draw.choice(np.unique(origin.astype(str)))))
    out = of_one[np.cumsum(landed[of_one]) > int(draw.integers(FEW[0], FEW[1] + 1))]
    pq.write_table(table.take(np.setdiff1d(np.arange(len(table)), out)), path)


def name_the_model(usecase: Path, seed: int) -> str:
    """Give the model of a use case another name than the published one; returns it."""
    draw = stream(seed, "name of the model")
    name = f"{draw.choice(NAMES_OF_MODELS)}-{draw.integers(10, 100)}"
    text = usecase.read_text(encoding="utf-8")
    usecase.write_text(text.replace(f'model_name = "{MODEL_NAME}"', f'model_name = "{name}"'), encoding="utf-8")
    return name


@work
def trained(grading: Grading) -> Logged:
    """The submission's own training, on which everything here rests. Raises Owed."""
    given_ = grading.get(given)
    ran = running.train(grading, "train", given_.data, given_.settings)
    try:
        return tracked.read(grading, ran, [feature.name for feature in given_.definitions], "we ran train")
    except Fault:
        raise Owed("train has to log a complete run first: see tracking.run_is_complete") from None


@dataclass(frozen=True)
class Tables:
    """Features that we computed: of the gate's flights, of those of the evening before, and of the rows that are scored by alias."""

    gate: pd.DataFrame
    evening: pd.DataFrame
    rows: pd.DataFrame


@work
def tables(grading: Grading) -> Tables:
    """Raises Owed."""
    given_ = grading.get(given)
    usecase = given_.settings / "usecase.toml"
    flights = [table.rename(columns={"flight_id": "row_id"}) for table in (given_.flights, given_.evening)]
    try:
        found = [
            features.compute(given_.definitions, usecase, given_.data, table) for table in (*flights, given_.rows.table)
        ]
    except FeatureProblem as problem:
        raise Owed(f"{problem}; features.toml is owed from stage 04") from None
    return Tables(*found)


@work
def answers(grading: Grading) -> dict[str, np.ndarray]:
    """What the submission's model says of both tables. Raises Owed."""
    run, asked_ = grading.get(trained), grading.get(tables)
    try:
        return tracked.scored(tracked.score(grading, [(run, {"gate": asked_.gate, "rows": asked_.rows})])[0])
    except Fault as problem:
        raise Owed(f"{problem}; the logged model is owed from stage 05") from None


@work
def gate(grading: Grading) -> Gate:
    """The gate's flights, and what the submission's model says of them."""
    late = grading.get(given).flights["late"].to_numpy(bool)
    return challengers.gate(grading.get(tables).gate, late, grading.get(answers)["gate"])


@work
def cases(grading: Grading) -> dict[str, Case]:
    return challengers.line_up(grading.get(gate), grading.world().seed or 0)


@dataclass(frozen=True)
class LineUp:
    """A store with a champion and challengers; `versions` by the names of the cases."""

    champion: str
    versions: Mapping[str, str]
    store: Path


@work
def lined_up(grading: Grading) -> LineUp:
    """Register champion and challengers with the submission's own MLflow, in an order that tells nothing."""
    run, cases_, at = grading.get(trained), grading.get(cases), grading.get(gate)
    assert run.ran.tracking is not None
    names = list(cases_)
    stream(grading.world().seed or 0, "order of challengers").shuffle(names)
    settings = [challengers.champion(at), *(cases_[name].setting for name in names)]
    placed, out = grading.folder("challengers-given"), grading.folder("challengers", grading.limits.disk_mb)
    plan, kit = Mount(placed, "given"), Mount(INSIDE, "kit")
    written, store = Mount(out / "out", "out", writable=True), Mount(out / stores.NAME, stores.NAME)
    rows, others = grading.get(tables).rows, _evening(grading)
    good = [cases_[name].setting for name in ("better", "best")]
    for number, setting in enumerate(settings):
        wrong_about = others if setting in good else {}
        (placed / f"{number}").write_text(challengers.weights(at, rows, setting, wrong_about))
    seen = grading.sandbox.path
    described = {
        "base": seen(store / run.model), "like": run.run_id, "name": grading.get(given).model,
        "weights": [seen(plan / f"{number}") for number in range(len(settings))],
    }  # fmt: skip
    (placed / "plan.json").write_text(json.dumps(described))
    argv: list[Argument] = ["python", kit / "challengers.py", plan / "plan.json", written / "versions.json"]
    ran = grading.submission.run("challengers", argv, [plan, kit], out, grading.limits, tracking=run.ran.tracking)
    if not ran.ok or ran.tracking is None:
        raise Owed(f"we registered challengers that ask your logged model; {ran.sentence()}")
    try:
        versions = grading.reader.json(ran.out / "versions.json")
    except Unreadable as problem:
        raise Owed(f"we registered challengers that ask your logged model; the list of them {problem}") from None
    if not isinstance(versions, list) or len(versions) != len(settings):
        raise Owed("we registered challengers that ask your logged model; some of them are missing")
    if not all(re.fullmatch("[0-9]{1,9}", str(version)) for version in versions):
        raise Owed(
            "we registered challengers that ask your logged model; the list of them is not the one that we wrote"
        )
    return LineUp(str(versions[0]), {n: str(v) for n, v in zip(names, versions[1:], strict=True)}, ran.tracking)


def _evening(grading: Grading) -> dict[str, float]:
    """Flights of the evening before the gate's month, by key, and how they ended."""
    return challengers.endings(grading.get(tables).evening, grading.get(given).evening["late"].to_numpy(bool))


@dataclass(frozen=True)
class Registered:
    """A registered model as its store has it: versions that are there, the one that is champion, and versions that were deleted."""

    versions: frozenset[str]
    champion: str | None
    runs: Mapping[str, str]
    sources: Mapping[str, str]
    deleted: frozenset[str] = frozenset()


def registered(grading: Grading, ran: Ran, model: str = MODEL_NAME) -> Registered:
    """The registry after a command, of a model. Raises Fault."""
    if ran.tracking is None:
        return Registered(frozenset(), None, {}, {})
    try:
        answer = grading.reader.registry(ran.tracking, stores.NAME, model)
    except Unreadable as problem:
        raise Fault(f"the MLflow store {problem}") from None
    there = {name: v for name, v in answer["versions"].items() if isinstance(v, dict) and not v.get("deleted")}
    runs, sources = ({name: str(v.get(key)) for name, v in there.items()} for key in ("run", "source"))
    deleted = frozenset(answer["versions"]) - frozenset(there)
    return Registered(frozenset(there), answer["aliases"].get("champion"), runs, sources, deleted)


def store_after(grading: Grading, ran: Ran) -> Registered:
    """The registry of this stage after a command. Raises Fault."""
    return registered(grading, ran, grading.get(given).model)


def audited(grading: Grading, ran: Ran) -> list[AuditRecord | None]:
    """The lines of the audit log after a command; None for one that is not whole. Raises Fault."""
    if ran.state is None or not (path := ran.state / "audit.jsonl").exists():
        return []
    try:
        lines = grading.reader.lines(path)
    except Unreadable as problem:
        raise Fault(f"audit.jsonl {problem}") from None
    try:
        return [None if line is None else parse_output(AuditRecord, line) for line in lines]
    except OutputProblem as problem:
        raise Fault(str(problem)) from None


def promotion(grading: Grading, version: str, out: Path) -> tuple[list[Argument], list[Mount]]:
    """The command line of a promotion, and what it reads."""
    given_ = grading.get(given)
    source, settings = Mount(given_.data, "data"), Mount(given_.settings, "given")
    argv: list[Argument] = [
        *running.command(grading, "promote"), "--usecase", settings / "usecase.toml", "--version", version,
        "--data", source, "--out", Mount(out / "out", "out", writable=True) / "decision.json",
    ]  # fmt: skip
    return argv, [source, settings]


def promote(grading: Grading, label: str, version: str, store: Path, state: Path | None = None) -> Ran:
    """Ask the submission's gate about a version, in copies of a store and a state."""
    out = grading.folder(label, grading.limits.disk_mb)
    argv, reads = promotion(grading, version, out)
    return grading.submission.run("promote", argv, reads, out, grading.limits, tracking=store, state=state)


def promote_good(grading: Grading, label: str, version: str, store: Path, state: Path | None = None) -> Ran:
    """The same for a challenger that is better: asked once more where it was refused for its speed alone, which a busy machine may do."""
    ran = promote(grading, label, version, store, state)
    try:
        reasons = decision(grading, ran, label).reasons
    except (Fault, Owed):
        return ran
    if not reasons or any(reason.gate != "latency" for reason in reasons):
        return ran
    return promote(grading, f"{label}{AGAIN}", version, store, state)


AGAIN = "-again"  # ends the label of a command that was repeated, so that it is seen in the list of what was run


def rollback(grading: Grading, label: str, store: Path, state: Path) -> Ran:
    out = grading.folder(label, grading.limits.disk_mb)
    settings = Mount(grading.get(given).settings, "given")
    argv: list[Argument] = [
        *running.command(grading, "rollback"), "--usecase", settings / "usecase.toml",
        "--out", Mount(out / "out", "out", writable=True) / "rollback.json",
    ]  # fmt: skip
    return grading.submission.run("rollback", argv, [settings], out, grading.limits, tracking=store, state=state)


def decision(grading: Grading, ran: Ran, what: str) -> GateDecision:
    """What a promotion says that it decided. Raises Fault, and Owed where there is no such command yet."""
    if ran.absent:
        raise Owed(f"there is no {ran.command} command yet; {ran.sentence()}")
    if not ran.ok:
        raise Fault(f"{what}; {ran.sentence()}")
    return predictions.read_json(grading.reader, GateDecision, ran.out / "decision.json", f"{what}; ")


def asked(name: str) -> Work[Ran]:
    """The promotion of one challenger beside the champion, on a copy of the store of its own."""

    def ask(grading: Grading) -> Ran:
        line = grading.get(lined_up)
        ask_ = promote if grading.get(cases)[name].refused else promote_good
        return ask_(grading, f"promote-{name}", line.versions[name], line.store)

    ask.__name__ = f"promotion of {name}"
    return work(ask)


NAMES = ("better", "worse", "lucky", "leaky", "slice", "uncalibrated", "slow", "broken", "gaps")
PROMOTIONS = {name: asked(name) for name in NAMES}
LINE: list[Work[Any]] = [given, trained, tables, answers, gate, cases, lined_up]


def sentence(case_: Case) -> str:
    return f"we registered a challenger that {case_.said} and ran promote"


def told(reasons: Sequence[Reason]) -> str:
    """The gates of reasons, for a person."""
    found = [f"{r.gate}{f' ({r.slice})' if r.slice else ''}" for r in reasons]
    return ", ".join(found) or "none"


@check("registry.champion_moves_only_for_better", uses=[*LINE, *PROMOTIONS.values()])
def champion_moves_only_for_better(grading: Grading) -> Finding:
    """Of nine challengers the one that is better becomes champion; for the others the alias stays where it is.

    Catches: a gate that looks at one number; an alias that moves before the decision; a gate that refuses everything.
    Accepts: any bars between those of the contract, any way to measure.
    """
    cases_, line = grading.get(cases), grading.get(lined_up)
    wrong, rows = [], []
    for name, promotion_ in PROMOTIONS.items():
        case_, ran = cases_[name], grading.get(promotion_)
        made = decision(grading, ran, sentence(case_))
        after = store_after(grading, ran).champion
        right = line.versions[name] if case_.refused is None else line.champion
        says = "promoted" if case_.refused is None else "refused"
        done = (
            "became champion"
            if after == line.versions[name]
            else "champion as before"
            if after == line.champion
            else "other"
        )
        rows.append((case_.said, says, made.decision, told(made.reasons), done))
        if after != right or made.decision != says:
            wrong.append((case_, made, done))
    table = charts.table(
        "The gate and its challengers", ("a challenger that", "has to be", "was", "reasons", "alias"), rows,
        "; ".join(f"{row[0]}: {row[2]}, {row[4]}" for row in rows),
    )  # fmt: skip
    if wrong:
        case_, made, done = wrong[0]
        other = f"; {len(wrong) - 1} more went wrong" if len(wrong) > 1 else ""
        return failed(
            f"{sentence(case_)}; it had to be {'promoted' if case_.refused is None else 'refused'}, and the decision was "
            f"{made.decision} (reasons: {told(made.reasons)}), the alias {CHAMPION_IS[done]}{other}",
            f"{len(rows) - len(wrong)} of {len(rows)} right", "all", table,
        )  # fmt: skip
    return passed(
        "the better challenger became champion, the others did not", f"{len(rows)} of {len(rows)} right", "all", table
    )


CHAMPION_IS = {
    "became champion": "now points to it",
    "champion as before": "stayed where it was",
    "other": "points to another version",
}


def names_the_gate(name: str) -> Callable[[Grading], Finding]:
    """A check that a challenger is refused for what is wrong with it."""

    def judged(grading: Grading) -> Finding:
        case_, ran = grading.get(cases)[name], grading.get(PROMOTIONS[name])
        made = decision(grading, ran, sentence(case_))
        wanted = ", ".join(f"{case_.refused} ({slice_})" for slice_ in case_.slices) or str(case_.refused)
        found = [r for r in made.reasons if r.gate == case_.refused and (not case_.slices or r.slice in case_.slices)]
        if made.decision != "refused" or len({r.slice for r in found}) < max(1, len(case_.slices)):
            said = f"refused, reasons: {told(made.reasons)}" if made.reasons else made.decision
            return failed(
                f"{sentence(case_)}; its reasons do not name what is wrong with it",
                said,
                f"refused, with {wanted}",
            )
        if case_.slices and (fine := _not_worse(grading, case_, made.reasons)):
            return failed(
                f"{sentence(case_)}; its reasons name {fine} too, where it is not worse", told(made.reasons), wanted
            )
        chart = _beside(grading, case_)
        return passed(f"a challenger that {case_.said} is refused for it", told(found), wanted, *chart)

    return judged


def _not_worse(grading: Grading, case_: Case, reasons: Sequence[Reason]) -> str:
    """The first airport that reasons name and where a challenger is not worse by two standard errors; empty if there is none."""
    at = grading.get(gate)
    base, airports = challengers.champion(at), set(at.origin)
    named = [r.slice for r in reasons if r.gate == "slice" and challengers.airport(r.slice) in airports]
    return next((n for n in named if n and at.lead(case_.setting, base, challengers.airport(n)) > -2), "")


def _beside(grading: Grading, case_: Case) -> list[Chart]:
    """What the challenger says against what happened, where that shows what is wrong with it."""
    at = grading.get(gate)
    if case_.refused == "calibration":
        return [charts.calibration("What the challenger promised", "challenger", at.late, at.of(case_.setting))]
    if case_.refused == "too_good":
        scores = {"challenger": at.of(case_.setting), "champion": at.of(challengers.champion(at))}
        return [charts.roc("Too good to be true", at.late, scores)]
    return []


@work
def itself(grading: Grading) -> Ran:
    """The champion, asked about again."""
    line = grading.get(lined_up)
    return promote(grading, "promote-champion", line.champion, line.store)


@check("registry.refuses_what_is_not_better", uses=[*LINE, PROMOTIONS["worse"], PROMOTIONS["lucky"], itself])
def refuses_what_is_not_better(grading: Grading) -> Finding:
    """A challenger that is worse, one that is better by less than chance, and the champion itself are refused as `not_better`.

    Catches: promoting whatever is new; `<=`; a mean without its error; a champion that is promoted over itself.
    Accepts: any bar between one and three standard errors.
    """
    worse = names_the_gate("worse")(grading)
    if worse.outcome.value == "fail":
        return worse
    what = "we ran promote for the version that is champion already"
    made, line = decision(grading, grading.get(itself), what), grading.get(lined_up)
    if made.decision != "refused" or "not_better" not in {reason.gate for reason in made.reasons}:
        said = f"refused, reasons: {told(made.reasons)}" if made.reasons else made.decision
        return failed(f"{what}; it is not better than itself", said, "refused, with not_better")
    if store_after(grading, grading.get(itself)).champion != line.champion:
        return failed(f"{what}; it was refused, and the champion is another one", "moved", "as before")
    return names_the_gate("lucky")(grading)


@check("registry.suspects_what_is_too_good", uses=[*LINE, PROMOTIONS["leaky"]])
def suspects_what_is_too_good(grading: Grading) -> Finding:
    """A challenger that knows how the flights ended is refused as `too_good`.

    Catches: the better the score the better; a limit for the log loss that a leak does not reach. Accepts: any bar from .85 to .95.
    """
    return names_the_gate("leaky")(grading)


@check("registry.looks_at_slices", uses=[*LINE, PROMOTIONS["slice"], PROMOTIONS["worse"]])
def looks_at_slices(grading: Grading) -> Finding:
    """A challenger that is better on average and worse for two airports is refused, and both are named, the third is not.

    Catches: a mean that hides a slice; slices of its own choice only, or those with very many flights; the first of them only; two
    means compared where flights are to be; slices looked at only where the mean is better. Accepts: any bar between two and five
    standard errors.
    """
    found = names_the_gate("slice")(grading)
    if found.outcome is not Outcome.PASS:
        return found
    case_, at = grading.get(cases)["worse"], grading.get(gate)
    made = decision(grading, grading.get(PROMOTIONS["worse"]), sentence(case_))
    named = {challengers.airport(reason.slice) for reason in made.reasons if reason.gate == "slice"}
    unnamed = [o for o in at.clearly_worse(case_.setting, challengers.champion(at)) if o not in named]
    if unnamed:
        return failed(
            f"{sentence(case_)}, by more than five standard errors at {' and '.join(unnamed)}, and no reason of slice names that; all "
            "gates are asked, also where one has said no", told(made.reasons), ", ".join(f"slice (origin={o})" for o in unnamed),
        )  # fmt: skip
    return found


@check("registry.asks_for_calibration", uses=[*LINE, PROMOTIONS["uncalibrated"]])
def asks_for_calibration(grading: Grading) -> Finding:
    """A challenger that orders flights better and promises what does not come true is refused as `calibration`.

    Catches: a gate for order alone; gates that end with the first no. Accepts: other bins, any bar from .06 to .13.
    """
    return names_the_gate("uncalibrated")(grading)


@check("registry.asks_for_speed", uses=[*LINE, PROMOTIONS["slow"]])
def asks_for_speed(grading: Grading) -> Finding:
    """A challenger that takes twenty times as long is refused as `latency`.

    Catches: a gate without a clock; a clock around the loading, or around one call about the whole month. Accepts: single rows, batches, a
    median or the least of several tries.
    """
    return names_the_gate("slow")(grading)


@check("registry.tries_the_model_first", uses=[*LINE, PROMOTIONS["broken"], PROMOTIONS["gaps"]])
def tries_the_model_first(grading: Grading) -> Finding:
    """Challengers without usable probabilities, for all or for some, are refused as `schema`, and promote does not crash.

    Catches: trusting a signature; per cent taken for probabilities; missing ones filled. Accepts: any further gate beside it.
    """
    broken, gaps = (names_the_gate(name)(grading) for name in ("broken", "gaps"))
    return gaps if broken.outcome is Outcome.PASS else broken


@check("registry.reasons_are_measured", uses=[*LINE, *(PROMOTIONS[n] for n in ("worse", "leaky", "slice"))])
def reasons_are_measured(grading: Grading) -> Finding:
    """The numbers in reasons are what champion and challenger get on the gate's flights, and a bar lies where the contract has it.

    Catches: numbers from the run instead of the flights; other rows than the last month's; champion and challenger exchanged; a bar on
    the wrong side of the champion. Accepts: numbers rounded to three digits; no bar.
    """
    cases_, at = grading.get(cases), grading.get(gate)
    base = challengers.champion(at)
    pairs: dict[str, tuple[float, float]] = {}
    asked_ = [(name, slice_) for name in ("worse", "leaky", "slice") for slice_ in cases_[name].slices or (None,)]
    for name, slice_ in asked_:
        case_ = cases_[name]
        made = decision(grading, grading.get(PROMOTIONS[name]), sentence(case_))
        reasons = [r for r in made.reasons if r.gate == case_.refused and r.slice == slice_]
        if not reasons:
            raise Owed("the gate has to name what is wrong first: see the checks of the single gates")
        metric, champion_, challenger = challengers.numbers(at, case_, base, slice_)
        if reasons[0].metric != metric:
            return failed(
                f"{sentence(case_)}; the metric of {case_.refused} has another name", reasons[0].metric, metric
            )
        for who, got, right in (
            ("champion", reasons[0].champion, champion_),
            ("challenger", reasons[0].challenger, challenger),
        ):
            if got is None or abs(got - right) > BARS["number"]:
                return failed(
                    f"{sentence(case_)}; the {metric} of the {who} in the reason {case_.refused} is not what we measure on the "
                    f"gate's flights{f' of {slice_}' if slice_ else ''}", got, f"within {BARS['number']:g} of ours",
                )  # fmt: skip
            pairs[f"{case_.refused}{f' ({slice_})' if slice_ else ''}: {metric} of the {who}"] = (got, right)
        low, high = challengers.bars(at, case_, base, slice_)
        bar = reasons[0].bar
        if bar is not None and not low - BARS["number"] <= bar <= high + BARS["number"]:
            return failed(
                f"{sentence(case_)}; the bar in the reason {case_.refused}{f' for {slice_}' if slice_ else ''} is not what could have been "
                f"allowed: the {metric} of the champion is {champion_:.4f}, that of the challenger {challenger:.4f}",
                f"{bar:.4f}", f"{low:.4f} to {high:.4f}",
            )  # fmt: skip
    return passed(
        "the numbers in reasons are what we measure", f"{len(pairs)} numbers", f"within {BARS['number']:g} of ours",
        charts.pairs("Numbers in reasons", pairs),
    )  # fmt: skip


@dataclass(frozen=True)
class Registrations:
    """`register` twice for the same run, of which another registered model has a version too, and once for a run that is not there."""

    first: Ran
    again: Ran
    unknown: Ran
    unfinished: Mapping[str, Ran]  # by the status of the run


def register(grading: Grading, label: str, run_id: str, store: Path) -> Ran:
    out = grading.folder(label, grading.limits.disk_mb)
    settings = Mount(grading.get(given).settings, "given")
    argv: list[Argument] = [
        *running.command(grading, "register"), "--usecase", settings / "usecase.toml", "--run-id", run_id,
        "--out", Mount(out / "out", "out", writable=True) / "version.json",
    ]  # fmt: skip
    return grading.submission.run("register", argv, [settings], out, grading.limits, tracking=store)


@work
def registrations(grading: Grading) -> Registrations:
    run = grading.get(trained)
    assert run.ran.tracking is not None
    shared = alter(grading, run.ran.tracking, "elsewhere", "7", run.run_id)
    first = register(grading, "register", run.run_id, shared)
    again = register(grading, "register-again", run.run_id, first.tracking or shared)
    unknown = register(grading, "register-unknown", "0" * 31 + "1", run.ran.tracking)
    ended = "FAILED" if stream(grading.world().seed or 0, "how a run ended").random() < 0.7 else "KILLED"
    unfinished = {
        status: register(
            grading, f"register-{status.lower()}", run.run_id, alter(grading, run.ran.tracking, status, "0", run.run_id)
        )
        for status in (ended, "RUNNING")
    }
    return Registrations(first, again, unknown, unfinished)


def version_of(grading: Grading, ran: Ran, what: str) -> str:
    if ran.absent:
        raise Owed(f"there is no register command yet; {ran.sentence()}")
    if not ran.ok:
        raise Fault(f"{what}; {ran.sentence()}")
    return predictions.read_json(grading.reader, VersionRecord, ran.out / "version.json", f"{what}; ").version


@check("registry.registers_runs", uses=[given, trained, registrations])
def registers_runs(grading: Grading) -> Finding:
    """A finished run gets a version, the same one when it is registered again; one that is not there or not finished is refused.

    Catches: a version at every retry; another model's version; registering that promotes; a crash where there is no run; a model of a run
    that failed.
    Accepts: any description and tags.
    """
    run, found = grading.get(trained), grading.get(registrations)
    version = version_of(grading, found.first, "we ran register for the run of train")
    there = store_after(grading, found.first)
    if there.runs.get(version) != run.run_id:
        return failed(
            f"we ran register for the run of train, of which another registered model has version 7; version {version} of "
            f"{grading.get(given).model} is not that run's",
            f"versions: {', '.join(sorted(there.versions)) or 'none'}", "a version of this run",
        )  # fmt: skip
    if there.champion is not None:
        return failed(
            "we ran register; it also made the version champion, which is for promote", "champion", "no alias"
        )
    again = version_of(grading, found.again, "we ran register for the same run again")
    count = len(store_after(grading, found.again).versions)
    if again != version or count != 1:
        return failed("we ran register for the same run again; it has to keep its version", f"{count} versions", "1")
    refused(grading, found.unknown, "we ran register for a run that is not there")
    for status, ran in found.unfinished.items():
        refused(grading, ran, f"we set the status of the run of train to {status} and ran register for it")
    return passed(
        "a run gets one version, and one that is not there or not finished none",
        f"version {version}",
        "a version of this run",
    )


def refused(grading: Grading, ran: Ran, what: str, key: str | None = None) -> None:
    """See that a command refused, and named a key. Raises Fault."""
    if ran.finished.ended != "exited" or ran.finished.code != 2:
        raise Fault(f"{what}; it has to end with exit code 2 and a refusal; {ran.sentence()}")
    said = predictions.read_json(grading.reader, Refusal, ran.refusal, f"{what}; it ended with exit code 2, but ")
    if key is not None and said.key != key:
        raise Fault(f"{what}; the key of its refusal is {said.key!r}, not {key!r}")


@dataclass(frozen=True)
class Story:
    """Two promotions and three rollbacks, one after the other, each beginning with what the one before has left.

    Before the second promotion the last line of the audit log was followed by half of one. `passed_over` are two rollbacks that also
    follow the two promotions, after the version of the first was deleted; `headless` is one after the version of the second was.
    """

    promotions: tuple[Ran, Ran]
    rollbacks: tuple[Ran, Ran, Ran]
    passed_over: tuple[Ran, Ran]
    headless: Ran


@work
def story(grading: Grading) -> Story:
    line = grading.get(lined_up)
    first = grading.get(PROMOTIONS["better"])
    if not first.ok or first.tracking is None or first.state is None:
        raise Owed(NOT_PROMOTED)
    crashed = grading.folder("state-with-half-a-line")
    stores.copy_files(first.state, crashed)
    if (crashed / "audit.jsonl").is_file():
        with (crashed / "audit.jsonl").open("ab") as file:
            file.write(TORN)
    second = promote_good(grading, "promote-second", line.versions["best"], first.tracking, crashed)
    one, two, three = back(grading, "rollback", second.tracking, second.state, 3)
    if second.tracking is None:
        raise Owed(NOT_PROMOTED)
    gone = alter(grading, second.tracking, "deleted", line.versions["better"])
    past, none = back(grading, "rollback-past-a-gap", gone, second.state, 2)
    beheaded = alter(grading, second.tracking, "deleted-champion", line.versions["best"])
    (headless,) = back(grading, "rollback-without-champion", beheaded, second.state, 1)
    return Story((first, second), (one, two, three), (past, none), headless)


NOT_PROMOTED = "a better challenger has to be promoted first: see registry.champion_moves_only_for_better"


def back(grading: Grading, label: str, store: Path | None, state: Path | None, times: int) -> list[Ran]:
    """Rollbacks, each beginning with what the one before has left. Raises Owed."""
    found: list[Ran] = []
    for number in range(1, times + 1):
        if store is None or state is None:
            raise Owed(NOT_PROMOTED)
        found.append(ran := rollback(grading, f"{label}-{number}", store, state))
        store, state = ran.tracking, ran.state
    return found


TORN = b'{"at": "2024-01-01T00:00:00Z", "action": "pro'


@work
def answers_of_champion(grading: Grading) -> Ran:
    """`predict` by alias after the second promotion."""
    told_ = grading.get(story)
    given_ = grading.get(given)
    uri = f"models:/{given_.model}@champion"
    return running.predict_run(
        grading, "predict-champion", uri, given_.rows, given_.data, tracking=told_.promotions[1].tracking
    )


@check("registry.predicts_with_the_champion", uses=[*LINE, PROMOTIONS["better"], story, answers_of_champion])
def predicts_with_the_champion(grading: Grading) -> Finding:
    """`predict --model models:/NAME@champion` answers as the version does that was promoted last.

    Catches: the newest version instead of the alias; a model kept beside the registry; only models of its own making.
    Accepts: any way to load a registered model.
    """
    given_, line = grading.get(given), grading.get(lined_up)
    told_, ran = grading.get(story), grading.get(answers_of_champion)
    if store_after(grading, told_.promotions[1]).champion != line.versions["best"]:
        raise Owed("a better challenger has to be promoted first: see registry.champion_moves_only_for_better")
    what = "we ran predict with the URI of the champion, after a second promotion"
    if not ran.ok:
        raise Fault(f"{what}; {ran.sentence()}")
    got = predictions.read(grading.reader, ran.out / "predictions.parquet", given_.rows)
    setting, at = grading.get(cases)["best"].setting, grading.get(gate)
    right = challengers.answers(grading.get(answers)["rows"], grading.get(tables).rows, at.outcomes, setting)
    apart = abs(got - right)
    if (apart > BARS["equal"]).mean() > BARS["beside"]:
        return failed(
            f"{what}; it does not answer as the champion does",
            f"{int((apart > BARS['equal']).sum()):,} of {len(got):,} rows differ",
            "none",
        )
    return passed("predict answers as the champion does", f"{len(got):,} rows", "the same")


def went_back(grading: Grading, ran: Ran, what: str) -> tuple[RollbackRecord, str | None]:
    if ran.absent:
        raise Owed(f"there is no rollback command yet; {ran.sentence()}")
    if not ran.ok:
        raise Fault(f"{what}; {ran.sentence()}")
    said = predictions.read_json(grading.reader, RollbackRecord, ran.out / "rollback.json", f"{what}; ")
    return said, store_after(grading, ran).champion


@check("registry.rolls_back", uses=[*LINE, PROMOTIONS["better"], story])
def rolls_back(grading: Grading) -> Finding:
    """After two promotions, two rollbacks lead to the first champion; a third has nothing to go back to and is refused.

    Where the version between was deleted, one rollback leads there, and the second is refused. Where the champion itself was deleted,
    one leads to the version between.

    Catches: back and forth between two versions; the version number less one; a history lost to half a line, or to a version that is
    gone; a promotion that is passed over and taken back later; no way back once the champion is gone.
    Accepts: any memory: audit log, tags, aliases; as `from` of a champion that is gone its version or null.
    """
    line, told_ = grading.get(lined_up), grading.get(story)
    chain = [line.versions["best"], line.versions["better"], line.champion]
    if [store_after(grading, ran).champion for ran in told_.promotions] != [chain[1], chain[0]]:
        raise Owed("better challengers have to be promoted first: see registry.champion_moves_only_for_better")
    for number, ran in enumerate(told_.rollbacks[:2]):
        what = f"we promoted two versions one after the other and ran rollback{' twice' if number else ''}"
        said, after = went_back(grading, ran, what)
        if after != chain[number + 1]:
            where = chain.index(after) if after in chain else None
            is_now = "another version" if where is None else ("the newest", "the middle one", "the first")[where]
            wanted = ("the newest", "the middle one", "the first")[number + 1]
            return failed(f"{what}; the champion is not the one before", is_now, wanted)
        if (said.before, said.after) != (chain[number], chain[number + 1]):
            return failed(
                f"{what}; what it says is not what it did",
                f"from {said.before} to {said.after}",
                "from and to of this step",
            )
    refused(grading, told_.rollbacks[2], "we ran rollback a third time, where no champion before is known")
    if store_after(grading, told_.rollbacks[2]).champion != chain[2]:
        return failed(
            "we ran rollback a third time; it was refused, and the champion is another one", "moved", "as before"
        )
    past, none = told_.passed_over
    what = "we promoted two versions one after the other, deleted the first of them and ran rollback"
    said, after = went_back(grading, past, what)
    if (said.before, said.after, after) != (chain[0], chain[2], chain[2]):
        return failed(
            f"{what}; the champion is not the one before the version that is gone, or it says otherwise (it says: from {said.before} to "
            f"{said.after})", after, chain[2],
        )  # fmt: skip
    refused(grading, none, f"{what} twice, where the second time no champion before is known")
    if store_after(grading, none).champion != chain[2]:
        return failed(f"{what} twice; the second was refused, and the champion is another one", "moved", "as before")
    what = "we promoted two versions one after the other, deleted the second, which was champion, and ran rollback"
    said, after = went_back(grading, told_.headless, what)
    if (said.after, after) != (chain[1], chain[1]):
        return failed(
            f"{what}; the champion is not the one before it, or it says otherwise (it says: to {said.after})",
            after,
            chain[1],
        )
    return passed(
        "rollbacks lead back to the first champion, also past a version that is gone, and then are refused",
        "4 of 4",
        "4 of 4",
    )


@check("registry.leaves_an_audit_trail", uses=[*LINE, PROMOTIONS["better"], story, PROMOTIONS["worse"]])
def leaves_an_audit_trail(grading: Grading) -> Finding:
    """Every decision leaves one line that says what the decision said; lines are only added, also after half of one.

    Catches: promotions only; a file written anew; a line glued to a torn one; other reasons than those of the decision; a line about
    what was refused with exit code 2.
    Accepts: more keys; the torn line kept or left out.
    """
    line, told_ = grading.get(lined_up), grading.get(story)
    worse = grading.get(PROMOTIONS["worse"])
    if worse.absent or not worse.ok:
        raise Owed("promote has to decide first: see registry.champion_moves_only_for_better")
    _one_more(
        grading,
        [],
        worse,
        ("promote", line.champion, line.versions["worse"], "refused"),
        "we ran promote, which refused",
    )
    noted = [told(record.reasons) for record in audited(grading, worse) if record is not None]
    if noted[-1] != (said := told(decision(grading, worse, "we ran promote, which refused").reasons)):
        raise Fault(
            f"we ran promote, which refused; its line in the audit log has other reasons ({noted[-1]}) than --out ({said})"
        )
    runs = (*told_.promotions, *told_.rollbacks[:2])
    if not all(ran.ok for ran in runs):
        raise Owed("promote and rollback have to work first: see registry.rolls_back")
    champions = [line.champion, *(store_after(grading, ran).champion for ran in runs)]
    if champions[:3] != [line.champion, line.versions["better"], line.versions["best"]]:
        raise Owed("better challengers have to be promoted first: see registry.champion_moves_only_for_better")
    before: list[AuditRecord] = []
    for number, ran in enumerate(runs):
        action = "promote" if number < 2 else "rollback"
        torn = ", after we had added half a line to the audit log" if number == 1 else ""
        step = (action, champions[number], champions[number + 1], "promoted")
        before = _one_more(grading, before, ran, step, f"we ran {action}{torn}")
    if audited(grading, told_.rollbacks[2]) != audited(grading, told_.rollbacks[1]):
        return failed(
            "a rollback with nothing to go back to was refused, and the audit log is another one; what ends with exit code 2 has decided "
            "nothing", "another line", "none",
        )  # fmt: skip
    return passed("every decision left its line", "5 of 5", "one line each")


def _one_more(
    grading: Grading, before: Sequence[AuditRecord], ran: Ran, step: tuple[str, str | None, str | None, str], what: str
) -> list[AuditRecord]:
    """The lines after a command: those before and one that tells of it. Raises Fault."""
    lines = [record for record in audited(grading, ran) if record is not None]
    if lines[: len(before)] != list(before):
        raise Fault(f"{what}; lines of the audit log that were there are gone or changed")
    if len(lines) != len(before) + 1:
        raise Fault(f"{what}; the audit log has {len(lines)} whole lines, not {len(before) + 1}")
    last = lines[-1]
    if (last.action, last.before, last.after, last.decision) != step:
        got = f"{last.action} from {last.before} to {last.after}: {last.decision}"
        raise Fault(
            f"{what}; its line in the audit log says {got!r}, not {step[0]} from {step[1]} to {step[2]}: {step[3]}"
        )
    if last.decision == "refused" and not last.reasons:
        raise Fault(f"{what}; its line in the audit log gives no reasons")
    return lines


@work
def race(grading: Grading) -> list[Ran]:
    """Two promotions at the same moment, in one store and one state."""
    line = grading.get(lined_up)
    outs = [grading.folder(f"race-{number}", grading.limits.disk_mb) for number in range(2)]
    lines = [promotion(grading, line.versions[name], out) for name, out in zip(("best", "better"), outs, strict=True)]
    argvs, reads = [argv for argv, _ in lines], lines[0][1]
    return grading.submission.run_together("promote", argvs, reads, outs, grading.limits, line.store)


@check("registry.decides_one_at_a_time", uses=[*LINE, race])
def decides_one_at_a_time(grading: Grading) -> Finding:
    """Of two better challengers at the same moment the best is champion in the end; both were compared with the champion they met.

    Catches: both compared with the first champion; the last writer wins; a lock that is a process id.
    Accepts: either order.
    """
    line = grading.get(lined_up)
    runs = grading.get(race)
    what = "we ran promote for two better challengers at the same moment"
    made = {name: decision(grading, ran, what) for name, ran in zip(("best", "better"), runs, strict=True)}
    after = store_after(grading, runs[0]).champion
    if after != line.versions["best"]:
        says = "; ".join(f"{name}: {d.decision}, champion before {d.champion_before}" for name, d in made.items())
        return failed(
            f"{what}; the better of the two is not champion in the end ({says})", after, line.versions["best"]
        )
    best, better = made["best"], made["better"]
    in_turn = (
        (better.decision, better.champion_before, best.champion_before)
        == ("promoted", line.champion, line.versions["better"])
        if better.decision == "promoted"
        else (best.champion_before, better.champion_before) == (line.champion, line.versions["best"])
    )
    if best.decision != "promoted" or not in_turn:
        says = "; ".join(
            f"version {line.versions[n]}: {d.decision}, champion before {d.champion_before}" for n, d in made.items()
        )
        return failed(
            f"{what}; the second decision is not about the champion that the first left (champion at first {line.champion}; {says})",
            "both about one champion", "one after the other",
        )  # fmt: skip
    count = sum(record is not None for record in audited(grading, runs[0]))
    if count != 2:
        return failed(f"{what}; the audit log does not hold both decisions", f"{count} lines", "2 lines")
    order = "one after the other" if better.decision == "promoted" else "the best first, the other refused"
    return passed("of two at the same moment the better one is champion in the end", order, "one after the other")


@dataclass(frozen=True)
class Odd:
    """A registry without a champion, for a good and a bad challenger; one whose champion was deleted; an unknown version."""

    first: Ran
    blatant: Ran
    dangling: Ran
    unknown: Ran
    version: str


@work
def odd(grading: Grading) -> Odd:
    line = grading.get(lined_up)
    bare = alter(grading, line.store, "no-champion", line.champion)
    dangling = alter(grading, line.store, "deleted-champion", line.champion)
    version = line.versions["better"]
    return Odd(
        promote(grading, "promote-without-champion", version, bare),
        promote(grading, "promote-blatant-without-champion", line.versions["blatant"], bare),
        promote(grading, "promote-after-deletion", version, dangling),
        promote(grading, "promote-unknown", str(10_000 + len(line.versions)), line.store),
        version,
    )


def alter(grading: Grading, store: Path, what: str, version: str, run: str = "") -> Path:
    """A copy of a store in which an alias, a version or a run is otherwise."""
    out, kit = grading.folder(f"altered-{what}", grading.limits.disk_mb), Mount(INSIDE, "kit")
    database = Mount(out / stores.NAME, stores.NAME) / stores.DATABASE
    argv: list[Argument] = [
        "python", kit / "alter_registry.py", database, what, grading.get(given).model, version, "", run,
    ]  # fmt: skip
    ran = grading.submission.run("alter", argv, [kit], out, grading.limits, tracking=store)
    if not ran.ok or ran.tracking is None:
        raise Owed(f"we altered the registry; {ran.sentence()}")
    return ran.tracking


@check("registry.copes_without_a_champion", uses=[*LINE, odd])
def copes_without_a_champion(grading: Grading) -> Finding:
    """The first champion of all is promoted, also where the alias points to a deleted version, but not one whose answers are no good.

    An unknown version is refused.

    Catches: a crash on the first day; a champion that is not there compared with; a first champion that nobody judges, or by one gate.
    Accepts: any order of looking.
    """
    found = grading.get(odd)
    for what, ran in (
        ("we took the champion's alias away and ran promote for a good challenger", found.first),
        ("we deleted the champion, left its alias, and ran promote for a good challenger", found.dangling),
    ):
        made = decision(grading, ran, what)
        after = store_after(grading, ran).champion
        if made.decision != "promoted" or after != found.version:
            return failed(f"{what}; it is not champion now (reasons: {told(made.reasons)})", made.decision, "promoted")
        if made.champion_before is not None:
            return failed(
                f"{what}; the decision names a champion before, and there was none", made.champion_before, "null"
            )
    case_ = grading.get(cases)["blatant"]
    what = f"we took the champion's alias away and ran promote for a challenger that {case_.said}"
    made, wanted = decision(grading, found.blatant, what), {str(case_.refused), str(case_.also)}
    if made.decision != "refused" or store_after(grading, found.blatant).champion is not None:
        return failed(f"{what}; it became champion, or the decision says so", made.decision, "refused")
    if {r.gate for r in made.reasons} != wanted:
        return failed(
            f"{what}; its reasons are not all that speak against it, or compare it with nothing",
            told(made.reasons),
            ", ".join(sorted(wanted)),
        )
    if compared := next((r for r in made.reasons if r.champion is not None), None):
        return failed(f"{what}; a reason has a number of a champion, and there is none", compared.champion, "null")
    if found.unknown.absent:
        raise Owed(f"there is no promote command yet; {found.unknown.sentence()}")
    refused(grading, found.unknown, "we ran promote for a version that is not there")
    return passed("a registry without a champion gets its first, and nothing else does", "4 of 4", "4 of 4")
