"""A stream's script with a listener in it: say and play what you like, the replies follow by rule.

Knows how instructions, questions and chatter are worded, and lets `rules.Listener` find what each deserves.
Does not know which of them make an ability (`recipes.py`). Taught in notebook 01.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np

from aikit.synth.clips import Clip, ClipError
from aikit.synth.grammar import command, fact, house, sentence, translated, word
from aikit.synth.ontology import ontology
from aikit.synth.rules import Listener
from aikit.synth.script import Script, Sources, phrases

WRITTEN = 0.25  # share of instructions that are the stream's text rather than spoken


class Dialogue(Script):
    """A script whose replies are those of a perfect listener."""

    def __init__(self, sources: Sources, rng: np.random.Generator, limit_s: float):
        super().__init__(sources, rng, limit_s)
        self.listener, self.held, self.rule = Listener(rng), sources.held_out, ""
        self.log: list[
            tuple[str, str, dict[str, str]]
        ] = []  # what the listener heard, turn by turn
        self.alone = False  # no quiet sounds behind, for sounds are asked about

    def chance(self, p: float) -> bool:
        """True with probability ``p``."""
        return bool(self.rng.random() < p)

    # --- what happens ---------------------------------------------------------------------------
    def sound(self, label: str, reply: str | None = None, clip: Clip | None = None) -> None:
        """A sound happens; the listener knows whether it deserves a reply."""
        super().sound(label, reply or self.hear(label), clip)

    def hear(self, label: str, act: str = "", meaning: dict[str, str] | None = None) -> str | None:
        """Let the listener hear a turn; its reply."""
        self.log.append((label, act, meaning or {}))
        return self.listener.hear(label, act, meaning)

    def hazard(self, criterion: str | None = None) -> None:
        """A sound that by itself asks for help."""
        if label := self.choose("respond", criterion):
            self.sound(label)

    def speech(self, text: str, act: str, language: str = "en", **meaning: str) -> None:
        """Somebody speaks and means ``act``; ``meaning`` holds what an answer would be."""
        reply = self.hear("speech", act, meaning)
        self.say(text, reply, language)
        self.items[-1] = replace(self.items[-1], act=act, refers_to=self.listener.refers_to)

    def single(self, label: str) -> Clip | None:
        """A clip in which a countable sound is heard once, no longer than one can be; None without one."""
        longest, library = phrases()["countable"][label], self.sources.sounds
        entries = [entry for entry in library.entries if entry.label == label]
        sources = library.sources(label)
        for source in (sources[i] for i in self.rng.permutation(len(sources))):
            own = [entry for entry in entries if entry.source == source]
            for i in self.rng.permutation(len(own)):
                with suppress(ClipError):
                    if (clip := library.get(own[i])).duration_s <= longest:
                        return clip
        return None

    def countable(self) -> list[str]:
        """Labels of sounds of which there are clips to be counted."""
        return [label for label in phrases()["countable"] if self.single(label)]

    def once(self, label: str) -> None:
        """A countable sound, exactly once."""
        self.sound(label, clip=self.varied(self.single(label)))

    # --- what is said ---------------------------------------------------------------------------
    def instruct(self, act: str, wordings: list[str] | None = None, **values: str) -> None:
        """Give the instruction ``act``: said and acknowledged, or, as a stream begins, at times written."""
        text, ack = self.worded(act, wordings, **values)
        if not self.items and not self.rule and self.chance(WRITTEN):
            self.instruction, self.rule = text, act
            self.listener.obey(act)
        else:
            self.speech(self.called(text, "openers"), act, answer=ack)

    def worded(self, act: str, wordings: list[str] | None = None, **values: str) -> tuple[str, str]:
        """A wording of an act and its acknowledgement; labels among the values become names."""
        verb, *about = act.split()
        names = dict(values)
        if about and about[0] in ontology():
            names |= {"name": ontology()[about[0]].name, "plural": ontology()[about[0]].plural}
        key = verb
        if verb == "count" and len(about) > 1:
            key = "count not" if about[1].startswith("-") else "count and"
            names["others"] = ontology()[about[1].lstrip("-")].plural
        elif act in phrases()["acts"]:
            key = act
        elif verb == "name":
            key, names["name"] = "name but", ontology()[about[1]].name
        book = phrases()["acts"][key]
        return word(self.pick(wordings or book["say"]), self.rng, **names), book["ack"].format(
            **names
        )

    def expect(self, label: str) -> None:
        """Say that a hazard is no hazard now, in general words or in the sound's own."""
        own = phrases()["specific"].get(label)
        self.instruct(f"ignore {label}", own if own and self.chance(0.5) else None)

    def worded_as(self, wording: str, **values: str) -> str:
        """A wording with its choices made."""
        return word(wording, self.rng, **values)

    def called(self, text: str, how: str = "called") -> str:
        """Something said to the assistant, which may be called by name, or prepared for it."""
        pattern = self.pick(phrases()[how])
        return pattern.format(said=_inside(text) if "," in pattern else text)

    def ask(self, kind: str, about: str = "", **values: str) -> None:
        """Ask about what was heard or told."""
        text = word(self.pick(phrases()["understanding"][kind]), self.rng, **values)
        self.speech(self.called(text), f"{kind} {about}".strip(), **values)

    def fact(self) -> None:
        """A question with one right answer."""
        question, answer = fact(self.rng, self.held)
        self.speech(self.called(question), "ask", answer=answer)

    def small_talk(self) -> None:
        """A word to the assistant."""
        book = self.pick(phrases()["chat"]["small_talk"])
        self.speech(
            self.called(word(self.pick(book["ask"]), self.rng)), "ask", answer=book["answer"]
        )

    def home(self) -> None:
        """A command to the house, confirmed."""
        text, values = house(self.rng, self.held)
        answer = phrases()["chat"]["smart_home"]["reply"].format(**values)
        self.speech(self.called(text[:1].upper() + text[1:]), "ask command", answer=answer)

    def others(self) -> None:
        """The same questions and commands, to somebody else; or a question that wants no answer."""
        what = self.rng.random()
        if what < 0.25:
            return self.speech(
                word(self.pick(phrases()["rhetorical"]), self.rng), "others rhetorical"
            )
        text = fact(self.rng, self.held)[0] if what < 0.6 else house(self.rng, self.held)[0]
        pattern, person = self.pick(phrases()["others"]), self.pick(phrases()["people"])
        end = text[-1]
        text = pattern.format(person=person, said=_inside(text).rstrip("?.!"))
        self.speech(text[:1].upper() + text[1:] + end, "others")

    def chatter(self) -> None:
        """People talk, to nobody here."""
        voice = self.voice
        if self.chance(0.5):
            self.voice = self.pick(self.sources.voices)
        if self.chance(0.3):
            self.others()
        else:
            self.speech(self.statement(), "talk en")
        self.voice = voice

    def statement(self) -> str:
        """A sentence that asks nothing."""
        what = self.rng.random()
        if what < 0.15:
            return self.pick(phrases()["chatter"])
        text = "where"
        while text.startswith("where"):  # a question, if to nobody
            text = (
                sentence(self.rng, self.held) if what < 0.75 else translated(self.rng, self.held).en
            )
        return text[:1].upper() + text[1:] + "."

    def line(self, kind: str) -> None:
        """A line to be written down, if anybody asked for it: digits, commands or sentences."""
        if kind == "digits":
            return self.digits(
                "".join(str(d) for d in self.rng.integers(0, 10, self.rng.integers(1, 6)))
            )
        text = command(self.rng, self.held) if kind == "commands" else sentence(self.rng, self.held)
        self.speech(text, "talk en", written=text)

    def digits(self, string: str) -> None:
        """Digits one by one."""
        reply = self.hear("speech", "talk digits", {"written": " ".join(string)})
        super().digits(string)
        self.items[-1] = replace(self.items[-1], reply=reply, act="talk digits")

    def phrase(self, source: str, target: str) -> None:
        """A phrase, to be translated if anybody asked for it."""
        if not self.held and self.chance(0.15):
            said, meant = self.pick(phrases()["translation"][f"{source}_{target}"]["pairs"])
        else:
            text = translated(self.rng, self.held)
            said, meant = getattr(text, source), getattr(text, target)
        self.speech(said, f"talk {source}", source, **{target: meant, "written": said})


def _inside(text: str) -> str:
    """A text as it stands inside another: without its capital, unless that is "I" or a name."""
    return text if text.split()[0] in ("I", "I'm") else text[:1].lower() + text[1:]
