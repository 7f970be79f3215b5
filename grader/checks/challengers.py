"""Challengers made to measure: what each says of the gate's flights is known before it is registered, and lies beyond the bars.

Each is the submission's own model with something added to its logits. A gain, a little of what then happened, stands for a model with
better features: so a better challenger is better by far more than chance, whatever the submission's model is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from grader.checks import statistics, tracked
from grader.checks.api import Owed
from grader.sandbox.inside import spoil
from grader.world.build import stream

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# of the best one: the largest with which it is still credible; the better has half
GAINS = (0.14, 0.12, 0.1, 0.08, 0.06, 0.04, 0.02)
SLICE_NOISE, SLICE_GAINS = 0.6, (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3)
CLEARLY = 5.2  # standard errors; a little more than the contract's five
FEWEST = 300  # flights of a slice that has to be looked at
SLICE_HARMS = (0.06, 0.09, 0.13, 0.17, 0.22, 0.3)
AWRY = 0.2  # by which mean probability and late rate of a leaky challenger lie apart that is badly calibrated as well
BLURS = (0.2, 0.35, 0.5, 0.7)
LUCKY_NOISE, LUCKY_TRIES = 0.05, 400
LEAK, WORSE, PAUSE = 3.0, 1.2, 20.0
HOLES, OF_HOLES = 0.01, -1  # of the flights that get no answer, and the salt by which they are chosen
AGAINST = 8.0  # by which a challenger errs, in logits, about flights that are none of the gate's


@dataclass(frozen=True)
class Setting:
    """What a challenger changes.

    In logits, z becomes slope z + shift + gain toward what happened + blur and noise times numbers of the row's own that are normally
    distributed, those of blur the same in all challengers. With `within`, noise is for that airport only and gain for all others; the
    airport `harmed` has no gain either, and in both z moves by `harm` away from what happened. It waits `pause` times what it took;
    answers for a share `holes` of the flights are missing; `scale` and `column` spoil all of them.
    """

    slope: float = 1.0
    blur: float = 0.0
    gain: float = 0.0
    noise: float = 0.0
    within: str | None = None
    harmed: str | None = None
    harm: float = 0.0
    shift: float = 0.0
    salt: int = 0
    pause: float = 0.0
    holes: float = 0.0
    scale: float = 1.0
    column: str = "probability"


@dataclass(frozen=True)
class Gate:
    """The gate's flights as the judge sees them: labels (n,) bool, the model's probabilities (n,), airports (n,) and keys.

    `outcomes` tells a challenger of each key how its flights ended, -1 punctual to 1 late.
    """

    late: np.ndarray
    probability: np.ndarray
    origin: np.ndarray
    keys: list[str]
    outcomes: Mapping[str, float]

    def of(self, setting: Setting) -> np.ndarray:
        """What a challenger says (n,)."""
        return spoil.answer(self.probability, setting.slope, offsets(self.keys, self.origin, self.outcomes, setting))

    def auc(self, setting: Setting) -> float:
        return statistics.auc(self.late, self.of(setting))

    def log_loss(self, setting: Setting, origin: str | None = None) -> float:
        inside = slice(None) if origin is None else self.origin == origin
        return tracked.log_loss(self.late[inside], self.of(setting)[inside])

    def calibration(self, setting: Setting) -> float:
        return statistics.calibration_error(self.late, self.of(setting))

    def clearly_worse(self, one: Setting, other: Setting) -> list[str]:
        """The airports with enough flights at which `one` is worse than `other` by more than the contract asks to be named."""
        airports, counts = _counted(self.origin)
        large = [str(name) for name, count in zip(airports, counts, strict=True) if count >= FEWEST]
        return [name for name in large if self.lead(one, other, name) < -CLEARLY]

    def lead(self, one: Setting, other: Setting, origin: str | None = None) -> float:
        """By how many standard errors the log loss of `one` is lower than that of `other`."""
        mean, error = self.difference(one, other, origin)
        return mean / error if error else 0.0

    def difference(self, one: Setting, other: Setting, origin: str | None = None) -> tuple[float, float]:
        """By how much the log loss of `one` is lower than that of `other`, flight by flight: its mean and standard error."""
        import numpy as np

        inside = slice(None) if origin is None else self.origin == origin
        late = self.late[inside]
        apart = [np.where(late, -np.log(p), -np.log1p(-p)) for p in (self.of(other)[inside], self.of(one)[inside])]
        gap = apart[0] - apart[1]
        return float(gap.mean()), float(gap.std(ddof=1) / np.sqrt(len(gap)))


def offsets(keys: list[str], origin: np.ndarray, outcomes: Mapping[str, float], setting: Setting) -> np.ndarray:
    """What a challenger adds to the logits of rows (n,)."""
    import numpy as np

    found = np.full(len(keys), setting.shift)
    there = np.full(len(keys), True) if setting.within is None else np.asarray(origin == setting.within)
    if setting.blur:
        found += setting.blur * spoil.normal(keys, 0)
    if setting.noise:
        found += setting.noise * spoil.normal(keys, setting.salt) * there
    if setting.gain:
        elsewhere = True if setting.within is None else ~there & (origin != setting.harmed)
        found += setting.gain * np.array([outcomes.get(key, 0.0) for key in keys]) * elsewhere
    if setting.harm:
        both = np.isin(origin.astype(str), [str(setting.within), str(setting.harmed)])
        found -= setting.harm * np.array([outcomes.get(key, 0.0) for key in keys]) * both
    return found


def weights(at: Gate, rows: pd.DataFrame, setting: Setting, others: Mapping[str, float]) -> str:
    """The file of a challenger: what it adds for each flight of the gate and each of the feature table `rows`.

    `others` are flights that are none of the gate's, by key, and how they ended: about them it is quite wrong.
    """
    import numpy as np

    keys, origin = [*at.keys, *spoil.keys_of(rows)], np.concatenate([at.origin, rows["origin"].to_numpy(object)])
    moved = offsets(keys, origin, at.outcomes, setting)
    missing = np.full(len(keys), False)
    if setting.holes:
        order = spoil.normal(keys, OF_HOLES)
        missing = order <= np.quantile(order[: len(at.keys)], setting.holes)
    table: dict[str, float | None] = {key: -AGAINST * outcome for key, outcome in others.items()}
    table |= {
        key: None if gone else round(float(value), 9) for key, value, gone in zip(keys, moved, missing, strict=True)
    }
    return spoil.packed(
        {
            "slope": setting.slope, "usual": float(moved.mean()), "table": table, "scale": setting.scale,
            "column": setting.column, "pause": setting.pause,
        }
    )  # fmt: skip


def answers(
    probability: np.ndarray, table: pd.DataFrame, outcomes: Mapping[str, float], setting: Setting
) -> np.ndarray:
    """What a challenger says (n,) of the rows of a feature table, where the model says `probability` (n,)."""
    moved = offsets(spoil.keys_of(table), table["origin"].to_numpy(object), outcomes, setting)
    return spoil.answer(probability, setting.slope, moved)


def gate(table: pd.DataFrame, late: np.ndarray, probability: np.ndarray) -> Gate:
    """The gate's flights from their feature table, labels (n,) and the model's probabilities (n,)."""
    import numpy as np

    clipped = np.clip(probability, spoil.CLIP, 1 - spoil.CLIP)
    return Gate(late, clipped, table["origin"].to_numpy(object), spoil.keys_of(table), endings(table, late))


def endings(table: pd.DataFrame, late: np.ndarray) -> dict[str, float]:
    """How the flights of each key of a feature table ended, -1 punctual to 1 late; `late` has shape (n,)."""
    ends: dict[str, list[float]] = {}
    for key, was_late in zip(spoil.keys_of(table), late, strict=True):
        ends.setdefault(key, []).append(1.0 if was_late else -1.0)
    return {key: sum(values) / len(values) for key, values in ends.items()}


@dataclass(frozen=True)
class Case:
    """A challenger and what has to become of it: `refused` is the gate that has to say no, None where it is better.

    `slices` are those that have to be named, `also` is a second gate that has to say no.
    """

    setting: Setting
    refused: str | None
    said: str
    slices: tuple[str, ...] = ()
    also: str | None = None


def champion(at: Gate) -> Setting:
    """The model, calibrated on the gate's flights: what is compared is how it orders them, in any month.

    It is blurred a little: of flights that a coarse model takes for equal, the smallest gain would tell all late ones apart.
    """
    plain = calibrated(at, Setting())
    for blur in BLURS:
        found = calibrated(at, replace(plain, blur=blur))
        if all(at.calibration(one) <= 0.055 for one in (found, *_better(at, found))):
            break
    return found


def _better(at: Gate, base: Setting) -> tuple[Setting, Setting]:
    """One that is better in everything, and one that is better still, both still credible."""
    gain = next((gain for gain in GAINS if at.auc(replace(base, gain=gain)) <= 0.84), GAINS[-1])
    return calibrated(at, replace(base, gain=gain / 2)), calibrated(at, replace(base, gain=gain))


def calibrated(at: Gate, setting: Setting) -> Setting:
    """The same order of flights with probabilities that come true (Platt 1999)."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    probability = at.of(setting)
    logit = np.log(probability / (1 - probability))
    fitted = LogisticRegression(C=1e4).fit(logit.reshape(-1, 1), at.late)
    slope, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return replace(
        setting, slope=slope * setting.slope, blur=slope * setting.blur, gain=slope * setting.gain,
        shift=slope * setting.shift + shift,
    )  # fmt: skip


def line_up(at: Gate, seed: int) -> dict[str, Case]:
    """The challengers of a champion, by names that the submission never hears. Raises Owed where the model is no basis."""
    draw = stream(seed, "challengers")
    base = champion(at)
    airports, counts = _counted(at.origin)
    by_size = [str(airports[place]) for place in counts.argsort() if counts[place] >= FEWEST]
    if len(by_size) < 2:
        raise Owed("the gate's flights have no two airports with enough of them")
    harmed, there = by_size[0], str(draw.choice(by_size[1:]))
    better, best = _better(at, base)
    away = 1.0 if draw.random() < 0.5 else -1.0
    leaky = replace(base, gain=LEAK)
    broken = (replace(best, column="late"), replace(best, scale=100.0))[int(draw.integers(2))]
    found = {
        "better": Case(better, None, "is better in everything"),
        "best": Case(best, None, "is better still"),
        "worse": Case(replace(base, noise=WORSE, salt=int(draw.integers(1 << 30))), "not_better", "is worse by noise"),
        "lucky": Case(_lucky(at, base, int(draw.integers(1 << 30))), "not_better", "is better by less than chance"),
        "leaky": Case(leaky, "too_good", "knows how the flights ended"),
        "slice": Case(
            _in_a_slice(at, base, there, harmed, int(draw.integers(1 << 30))), "slice",
            "is better on average, worse for one airport, and a little worse for nearly every flight of a small one",
            tuple(sorted((f"origin={there}", f"origin={harmed}"))),
        ),
        "blatant": Case(
            replace(leaky, shift=_where_mean(at, leaky, float(at.late.mean()) + AWRY)), "too_good",
            "knows how the flights ended and says far too often that they are late", also="calibration",
        ),
        "uncalibrated": Case(_uncalibrated(at, best, away), "calibration", "says other probabilities than come true"),
        "slow": Case(replace(best, pause=PAUSE), "latency", "is better and takes twenty times as long"),
        "broken": Case(broken, "schema", "gives no usable probabilities"),
        "gaps": Case(replace(best, holes=HOLES), "schema", "gives no probability for one flight in a hundred"),
    }  # fmt: skip
    _confirm(at, base, found)
    return found


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    return np.unique(values.astype(str), return_counts=True)


def _where_mean(at: Gate, setting: Setting, wanted: float) -> float:
    """The shift with which the mean probability is `wanted` (bisection)."""
    return _solve(lambda shift: float(at.of(replace(setting, shift=shift)).mean()), wanted)


def _solve(rising: Callable[[float], float], wanted: float) -> float:
    low, high = -8.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return low


def _lucky(at: Gate, base: Setting, first: int) -> Setting:
    """A challenger that is better on these flights by less than a standard error, by chance: one of many tried."""
    for salt in range(first, first + LUCKY_TRIES):
        found = replace(base, noise=LUCKY_NOISE, salt=salt)
        if 0.2 < at.lead(found, base) < 0.8:
            return found
    raise Owed("we found no challenger that is better by chance on these flights")


def _in_a_slice(at: Gate, base: Setting, there: str, harmed: str, salt: int) -> Setting:
    """Noise for one airport and harm for two until they are clearly worse, and gain elsewhere until it is better on average all the same.

    In the airport `harmed` it is a little worse for nearly every flight: hardly to be seen in two means, and not by chance.
    """
    found = replace(base, within=there, harmed=harmed, noise=SLICE_NOISE, salt=salt)
    for harm in SLICE_HARMS:
        found = replace(found, harm=harm)
        if max(at.lead(found, base, name) for name in (there, harmed)) < -6:
            break
    for gain in SLICE_GAINS:
        found = replace(found, gain=gain)
        if at.lead(found, base) > 4:
            break
    return found


def _uncalibrated(at: Gate, better: Setting, away: float) -> Setting:
    """Probabilities that are all too high or all too low, until the calibration error is well beyond the bar."""
    rate = float(at.late.mean())
    found = better
    for way in (away, -away):
        for gap in (0.15, 0.17, 0.19, 0.22, 0.25, 0.3):
            if not 0.02 < rate + way * gap < 0.98:
                continue
            found = replace(better, shift=_where_mean(at, better, rate + way * gap))
            if at.calibration(found) >= 0.145:
                return found
    return found


def _confirm(at: Gate, base: Setting, found: Mapping[str, Case]) -> None:
    """See that each challenger is what it is said to be, by the bars of the contract. Raises Owed where the model is no basis."""
    better = [found[name].setting for name in ("better", "best")]
    slice_, blatant = found["slice"], found["blatant"].setting
    is_so = {
        "better": at.lead(better[0], base) > 4,
        "best": at.lead(better[1], better[0]) > 4 and at.lead(better[1], base) > 4,
        "nowhere worse": all(at.lead(one, base, str(o)) > -1 for one in better for o in set(at.origin)),
        "credible": all(at.auc(one) <= 0.85 for one in (base, *better)),
        "calibrated": all(at.calibration(one) <= 0.06 for one in (base, *better)),
        "worse": at.lead(found["worse"].setting, base) < -4,
        "worse somewhere": bool(at.clearly_worse(found["worse"].setting, base)),
        "leaky": at.auc(found["leaky"].setting) >= 0.95,
        "slice": at.lead(slice_.setting, base) > 3.2
        and {airport(name) for name in slice_.slices} <= {*at.clearly_worse(slice_.setting, base)},
        "blatant": at.auc(blatant) >= 0.95 and at.calibration(blatant) >= 0.135,
        "uncalibrated": at.calibration(found["uncalibrated"].setting) >= 0.135,
    }
    if wrong := [name for name, holds in is_so.items() if not holds]:
        raise Owed(
            "we could not make challengers around the logged model that are clearly good or bad "
            f"({', '.join(wrong)}); this happens where a model orders flights hardly better than chance, or knows too much"
        )


def airport(slice_: str | None) -> str | None:
    """The airport of a slice such as `origin=JFK`."""
    return slice_.partition("=")[2] if slice_ else None


def numbers(at: Gate, case: Case, base: Setting, slice_: str | None = None) -> tuple[str, float, float]:
    """The metric of the gate that has to refuse a challenger, and what champion and challenger get by it."""
    there = airport(slice_)
    if case.refused == "too_good":
        return "auc", at.auc(base), at.auc(case.setting)
    return "log_loss", at.log_loss(base, there), at.log_loss(case.setting, there)


def bars(at: Gate, case: Case, base: Setting, slice_: str | None = None) -> tuple[float, float]:
    """Between which numbers the bar of that gate may lie, by the bars of the contract."""
    if case.refused == "too_good":
        return 0.85, 0.95
    there = airport(slice_)
    champion_, error = at.log_loss(base, there), at.difference(case.setting, base, there)[1]
    return (champion_ + 2 * error, champion_ + 5 * error) if slice_ else (champion_ - 3 * error, champion_ - error)
