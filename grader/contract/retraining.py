"""The mailbox of `loop` (stage 11): what it is told, what it answers, and by which rules."""

from __future__ import annotations

from typing import Literal

Decision = Literal["keep", "retrain"]
ORDER_KEYS = ("train_start", "train_end")
STEP_SECONDS = 150  # within which an answer has to be there, counted from the message or the start, whichever is later
NAME = "{step:04d}.json"  # of messages and answers

MESSAGE_KEYS = (
    ("step", "whole number", "0, then one more each time"),
    ("now", "text", "the time it is, RFC 3339"),
    ("months", "[text]", "the months to fetch, `YYYY-MM`, the newest last; none at step 0"),
    (
        "order",
        "object, may be absent",
        "somebody asks for a model of these days: `train_start` and `train_end`, both included",
    ),
)

MAILBOX_RULES = (
    "The mailbox has two folders, `in/`, which is read-only, and `out/`. A message appears in `in/` whole, by rename, named after its "
    "step: `0007.json`. The answer to it is `out/0007.json`, also by rename: a file whose name ends otherwise is not looked at, "
    "and one in the making has to. Messages stay where they are.",
    f"The next message comes after the answer to the one before. An answer is there within {STEP_SECONDS} seconds of its message, or of "
    "the start where the message was there first. Once there, it does not change, and there is one for each message only.",
    "**Killed at any moment**, all processes at once, and started again with the same arguments, the loop goes on where it was: what is "
    "answered is done, what is not is answered now. No decision is lost or made twice, and no version is made that no answer names.",
    "The limits of a command hold from one start to the next, except for its time. What else may be used: the Prefect server of stage 07 "
    "is there, and the loop need not use it; `MLEKIT_STATE` is the loop's own, and what lies in it is yours to shape, but for the audit "
    "log.",
)

ARRIVAL_RULES = (
    "`SOURCE/M/` is a feed of month M as in stage 07, and what the source and months are like stands there; its numbers of calls and "
    "seconds hold for one step, and anew after a kill. Only months "
    "that a message has named may be asked for: of those to come the source has nothing.",
    "**Labels come late.** A month comes first without its last days, since the arrivals of these are not known yet. It comes again, "
    "whole, with the next step, and then no more. What came last counts; of a month that was there before and comes again so that it "
    "cannot be used, what was there before stays.",
    "**A month that cannot be had** is `failed`, with a `reason`; the rest of the step is done all the same. It comes again with the next "
    "step, as all do.",
    "**Labels may be wrong.** It happens that the arrivals of a month have been noted for other flights; its schedule and departures are "
    "right. Such a month is `refused`, with a `reason`, and nothing is learned from it and nothing is judged by it. It may come "
    "again as it was. One day it comes again put right, and counts from then on.",
    "`rows_in`, `rows_accepted` and `rows_quarantined` count as in stage 07, of the month as it came at this step. Of one that is refused "
    "for its labels `rows_in` are all rows that came, and none is accepted.",
)

DECISION_RULES = (
    "**Step 0** is the beginning: there is no model, and no month but those of the history. The first champion is made of these; there "
    "has to be one, so if the gate refuses it, make another.",
    "**`keep`** says that no version was made; **`retrain`** that some were, be it for an order alone; `versions` names them in their "
    "order. Which ones, and how many, is up to you. `trigger` says in a few words on what the decision rests.",
    "**The gate** is that of stage 06, with its bars, but which flights it is asked about is yours to choose: landed ones of days that are "
    "not in the version's window, on the last of which `train` has measured; what the champion has seen does not matter.",
    "**`champion`** is the version to which the alias points after the step. It answers for the flights of the month that comes next.",
    "**An order** is carried out: a version is made by `train` with just this window, so its run says `train_start` and `train_end` as the "
    "order does, and it is judged like others; refused or not, it stays in the registry. An order asks for days that are there, and not "
    "always for all days of a month. It is no reason to make champion what is worse.",
    "**Training costs**: each step at which versions were made costs as much as answering one month with a log loss that is higher by "
    "`cost`, in `[retraining]` of the use case, since somebody has to look at it. Step 0 and an order cost nothing. A version that was "
    "made counts, also if it has been deleted.",
    "**What a version answers stays what it was** when it became champion. It is asked in a process of its own, from a copy of the "
    "store as it was then.",
    "The audit log of stage 06 gets one line for each version that the gate judges.",
    "**The service** of stage 08 runs beside, on the same MLflow store, and follows.",
)
