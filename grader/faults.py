"""The faults that `mlekit break` can show, in words: what happens, what to look for, and the check that asks for it."""

from __future__ import annotations

from dataclasses import dataclass

BEFORE, DURING, AFTER = 4, 10, 6  # seconds


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong around a service, and comes right again."""

    name: str
    says: str  # what happens after a while
    look_for: str
    check: str  # that asks for it; empty where none does
    words: tuple[str, str] = ("fault", "mended")  # for the seconds from then on, and for those when it is over


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            "registry", "the registry's database cannot be read",
            "Answers go on as if nothing were wrong: what is loaded needs no registry.",
            "serving.outlives_the_registry",
        ),
        Fault(
            "model", "the champion becomes a version whose files are gone",
            "The version that answered before goes on answering; nobody sees an error.",
            "serving.follows_the_champion",
        ),
        Fault(
            "burst", "a thousand rows a request, two hundred times at once, are asked",
            "Some are answered, the others turned away at once; whoever asks about one row is answered soon again.",
            "serving.sheds_a_burst", ("burst", "later"),
        ),
        Fault(
            "slow-disk", "each write to MLEKIT_STATE takes half a second",
            "Answers that have to be written down take longer; /healthz and /readyz do not, and nothing fails.", "",
        ),
        Fault(
            "full-disk", "the disk of MLEKIT_STATE is full",
            "What cannot be written down is not answered: 503, not an answer that nobody will know of. Then all is well again.",
            "observability.answers_only_what_it_keeps",
        ),
        Fault(
            "kill", "the process is killed, and started again at once",
            "Nobody is answered for as long as a start takes, of which most is Python's; what was answered before is in the log.",
            "observability.survives_a_kill", ("killed", "later"),
        ),
    )
}  # fmt: skip
