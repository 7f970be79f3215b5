"""The gates that a challenger has to pass (stage 06), as data: when it has to be refused, and when it must not be for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GateName = Literal["not_better", "slice", "too_good", "calibration", "latency", "schema"]


@dataclass(frozen=True)
class Gate:
    """A gate, the `metric` that a reason names ("" for one of your choice), and how far apart yes and no lie."""

    name: GateName
    metric: str
    refuses: str
    allows: str


GATES = (
    Gate(
        "not_better", "log_loss",
        "its log loss is not lower than the champion's, or lower by less than one standard error of the mean difference, flight by "
        "flight",
        "it is lower by three of them or more",
    ),
    Gate(
        "slice", "log_loss",
        "on the flights of one value of a column in `slices` of the use case, of which there are 300 or more, its log loss is higher "
        "than the champion's by five standard errors of the difference there; the reason names the slice as `origin=JFK`",
        "there is no value where it is higher by two",
    ),
    Gate("too_good", "auc", "its AUC is .95 or more: nobody is so good at this honestly", "it is .85 or less"),
    Gate(
        "calibration", "",
        "its calibration error, the mean distance of mean probability and late rate in ten bins of as many flights each, is .13 or more",
        "it is .06 or less",
    ),
    Gate(
        "latency", "",
        "one call takes ten times as long as with the champion, both about one flight and about a hundred",
        "it takes up to three times as long, both about one and about a hundred",
    ),
    Gate(
        "schema", "",
        "it cannot be loaded or asked, gives no column `probability`, or one with a value missing or outside 0 to 1",
        "it does what the contract says of logged models",
    ),
)  # fmt: skip

RULES = (
    "**The champion** is the version to which the alias `champion` of the registered model points; the model is called "
    "`model_name` in the use case.",
    "**The gate's flights** are all landed flights of the last month of --data. Champion and challenger are asked about the same "
    "features, computed from your `features.toml`. Neither need have come from your `train`: any logged model may be registered.",
    "**All gates are asked**, and there is a reason for each that says no; for `slice`, one for each such value. Where `schema` says "
    "no, no other need be asked. In between the bars below the decision is yours.",
    "**Without a champion** nothing is compared, and `too_good`, `calibration` and `schema` still hold. An alias that points to a "
    "version that was deleted is no champion.",
    "**Numbers in reasons** are those of the gate's flights: `champion` and `challenger` what the two got, `bar` what would have been "
    "allowed; null where there is none.",
    "**Versions are text** in all files, whatever type MLflow gives them.",
    "**One at a time.** Commands may run at the same moment, in containers of their own, where process ids mean nothing to the "
    "other. Each decision is then about the champion that the one before has left.",
    "**The audit log** gets one line for each decision of `promote` and each `rollback`, also for challengers that are refused, and is "
    "only ever added to; a command that ends with exit code 2 has decided nothing. A line that a crash left half written may stay; it must "
    "spoil neither lines after it nor a rollback, and may be cut off.",
)  # fmt: skip
