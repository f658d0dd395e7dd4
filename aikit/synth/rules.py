"""The rules of the kit: what a perfect listener says to what it hears, and why no sound classifier can.

Knows instructions, what they change, and what was heard so far. Does not know audio or wordings' choices.
Taught in notebook 01.

Every turn has a *label* (of a sound, or "speech") and, if speech, an *act*: what is meant, in a few
words such as ``"tell dog_bark"``, ``"ask"`` or ``"talk en"``. From these alone a `Listener` knows whether
a reply is due; with the *meaning* that the script hands over (an answer, a translation) it also knows which.
The same bark is a number, a report, a name or nothing, depending on what was said before (paper §3.3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from aikit.synth.compose import Stream
from aikit.synth.ontology import ontology
from aikit.synth.script import phrases

TASKS = (
    "tell",
    "count",
    "name",
    "write",
    "translate",
    "machine",
    "remind",
)  # one at a time is in force


@dataclass
class Listener:
    """A perfect listener's memory: what it was told, and what it has heard, turn by turn."""

    rng: np.random.Generator | None = None  # chooses between pieces of advice; None = the first
    task: list[str] = field(default_factory=list)  # the instruction in force, as an act
    ignored: set[str] = field(default_factory=set)  # hazards that are expected
    only: str = ""  # the one hazard that is to be reported
    waiting: bool = False  # speaks only when asked
    quiet: bool = False  # nobody is talking to it
    counted: int = 0
    heard: list[tuple[int, str]] = field(default_factory=list)  # (turn, label) of every sound
    told: dict[str, tuple[int, str]] = field(default_factory=dict)  # slot -> (turn, value)
    turn: int = -1
    refers_to: int | None = None  # the turn that the last answer needed
    ruled: bool = (
        False  # an instruction decided about the last turn, not the sound or the words alone
    )

    def hear(self, label: str, act: str = "", meaning: dict[str, str] | None = None) -> str | None:
        """The reply that a turn deserves, or None for silence."""
        self.turn += 1
        self.refers_to, self.ruled = None, False
        if label == "speech":
            return self._speech(act.split(), meaning or {})
        self.heard.append((self.turn, label))
        return self._sound(label)

    def note(self, label: str) -> str:
        """What is worth remembering of a sound just heard: its name, and what was said of it.

        ``"dog bark"``, or ``"dog bark ignore"`` and ``"dog bark tell"`` after an instruction that named it.
        """
        return " ".join(filter(None, (ontology()[label].name, self._said_of(label))))

    def times(self, label: str) -> int:
        """How often a sound just heard was heard; of what is to be counted, the number of the count."""
        if self._said_of(label) == "count":
            return self.counted
        return len(self.turns_of(label))

    def turns_of(self, label: str) -> list[int]:
        """The turns in which a sound was heard."""
        return [turn for turn, heard in self.heard if heard == label]

    def _said_of(self, label: str) -> str:
        """The verb of the instruction in force that means a sound; empty if none does."""
        if label in self.ignored:
            return "ignore"
        if label == self.only:
            return "only"
        verb, *about = self.task or [""]
        meant = self._is_named(label, about) if verb == "name" else label in about
        return verb if meant else ""

    # --- sounds ---------------------------------------------------------------------------------
    def _sound(self, label: str) -> str | None:
        verb, *about = self.task or [""]
        sound, acts = ontology()[label], phrases()["acts"]
        self.ruled = True
        if verb == "tell" and label in about:
            return acts["tell"]["reply"].format(name=sound.name)
        if verb == "count" and label in about:
            return self._count()
        if verb == "count" and f"-{label}" in about:
            return None
        if verb == "name":
            return sound.name.capitalize() + "." if self._is_named(label, about) else None
        if (verb, label) == ("machine", "appliance_beep"):
            return acts["machine"]["reply"].format(machine=" ".join(about))
        if verb == "remind" and about[0] == label:
            return acts["remind"]["reply"].format(todo=" ".join(about[1:]))
        if sound.policy == "respond" and (
            label in self.ignored or self.waiting or self.only not in ("", label)
        ):
            return None
        self.ruled = label == self.only
        return self._advice(label)

    def _count(self) -> str:
        self.counted += 1
        return phrases()["numbers"][self.counted].capitalize() + "."

    def _is_named(self, label: str, about: list[str]) -> bool:
        if about[0] == "but":
            return label != about[1]
        return about[0] == "all" or label in phrases()["groups"][about[0]]

    def _advice(self, label: str) -> str | None:
        replies = ontology()[label].replies
        if not replies:
            return None
        return replies[int(self.rng.integers(len(replies)))] if self.rng else replies[0]

    # --- speech ---------------------------------------------------------------------------------
    def _speech(self, act: list[str], meaning: dict[str, str]) -> str | None:
        verb, about = act[0], act[1:]
        if verb == "talk":
            return self._talk(about[0], meaning)
        if verb == "others":
            self.ruled = not about  # a request, but to somebody else
            return None
        if verb in ("ask", "recall", *phrases()["understanding"]["answers"], "what"):
            self.ruled = self.quiet
            return None if self.quiet else self._answer(verb, about, meaning)
        if verb == "my":
            self.told[about[0]] = (self.turn, " ".join(about[1:]))
            return meaning.get("answer", "")
        self.obey(" ".join(act))
        return meaning.get("answer", "")

    def _talk(self, kind: str, meaning: dict[str, str]) -> str | None:
        """Words to nobody: only an instruction makes them matter."""
        verb, *about = self.task or [""]
        self.ruled = verb in ("write", "translate")
        if verb == "write" and (about[0] == "digits") == (kind == "digits"):
            return meaning.get("written", "")
        if verb == "translate" and about[0] == kind:
            return meaning.get(about[1], "")
        return None

    def _answer(self, verb: str, about: list[str], meaning: dict[str, str]) -> str | None:
        answers = phrases()["understanding"]["answers"]
        turns = {"first": 0, "second": 1}
        if verb == "recall":
            self.refers_to, value = self.told[about[0]]
            return phrases()["chat"]["slots"][about[0]]["answer"].format(value=value)
        if verb == "howmany":
            found = self.turns_of(about[0])
            self.refers_to = found[0]
            return answers[verb].format(number=phrases()["numbers"][len(found)].capitalize())
        if verb in turns:
            self.refers_to, label = self.heard[turns[verb]]
            return answers[verb].format(name=ontology()[label].name)
        if verb == "what" or verb == "instrument":
            self.refers_to, label = self.heard[-1]
            return (
                ontology()[label].answer
                if verb == "what"
                else answers[verb].format(name=ontology()[label].name)
            )
        return meaning.get("answer", "")

    def obey(self, act: str) -> None:
        """Take an instruction, said or written: ``act`` is what it means."""
        verb, *about = act.split() or [""]
        if verb in TASKS or verb == "stop":
            self.task, self.counted = [] if verb == "stop" else [verb, *about], 0
        elif verb == "ignore":
            self.ignored |= set(about)
        elif verb == "watch":
            self.ignored -= set(about)
        elif verb == "only":
            self.only = about[0]
        elif verb == "wait":
            self.waiting = True
        elif verb in ("quiet", "back"):
            self.quiet = verb == "quiet"


# --- what a classifier of clips could reach ------------------------------------------------------------
@dataclass(frozen=True)
class Turn:
    """A foreground event: its class, whether a reply is due, and what the rules say."""

    label: str
    due: bool
    by_rules: bool  # whether the rules, from labels and acts alone, call for a reply
    ruled: bool  # an instruction decided
    alone: bool  # whether the label or the words by themselves would call for a reply


def turns(stream: Stream) -> list[Turn]:
    """Hear a stream's foreground again, from its metadata alone."""
    listener, out = Listener(), []
    listener.obey(stream.rule)
    for event in (e for e in stream.events if e.role == "foreground"):
        by_rules = listener.hear(event.label, event.act) is not None
        if event.label == "speech":
            alone = event.act.split()[0] != "talk" and event.act != "others rhetorical"
        else:
            alone = ontology()[event.label].policy == "respond"
        out.append(Turn(event.label, event.reply is not None, by_rules, listener.ruled, alone))
    return out


def judgement(streams: Iterable[Sequence[Turn]]) -> dict[str, float]:
    """How far sound classes alone take a listener, and how far the rules do.

    Returns
    -------
    dict
        ``classifier``: the best trigger accuracy that a fixed decision a class can have, the true class of
        every event known (all speech is one class); ``rules``: that of the rules; ``ruled``: share of events
        about which an instruction or the context decided; ``turned``: share whose decision is the opposite
        of what the sound or the words alone would get; ``events``.
    """
    every = [turn for stream in streams for turn in stream]
    if not every:
        raise ValueError("no events to judge; give at least one stream with a foreground")
    by_class = Counter((turn.label, turn.due) for turn in every)
    best = sum(
        max(by_class[label, True], by_class[label, False]) for label in {t.label for t in every}
    )
    n = len(every)
    return {
        "classifier": best / n,
        "rules": sum(turn.by_rules == turn.due for turn in every) / n,
        "ruled": sum(turn.ruled for turn in every) / n,
        "turned": sum(turn.alone != turn.due for turn in every) / n,
        "events": n,
    }
