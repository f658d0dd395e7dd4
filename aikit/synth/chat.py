"""A language model plans, refines and verifies (paper §3.2) in place of the rules.

Knows prompts and schemas (``texts/prompts.yaml``), and what to do with a wrong answer: ask again with
the error, and after three tries let the rules do it, with a warning and a count. Does not know how a
model is reached (`llm.py`), or what a good scene is: `scenario.refine` has the last word on every
plan. A seed goes with every question; a stream is the same again as far as the model's answers are.
Taught in notebook 01.
"""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import numpy as np

from aikit.synth.clips import Entry
from aikit.synth.grounding import Planner, Rules
from aikit.synth.llm import KEY, Chat, Endpoint, LocalModel, NoAnswer
from aikit.synth.ontology import ontology
from aikit.synth.places import door, world
from aikit.synth.scenario import BAG, PlannedEvent, Scenario, plan, refine
from aikit.synth.verifier import Facts, Verdict

TRIES = 3  # of one question
DEAD_AFTER = 3  # questions in a row without any answer: the endpoint is not asked again
PAUSE_S = 0.5  # after no answer; then twice that


@cache
def prompts() -> dict:
    """``texts/prompts.yaml`` with the ontology's names filled in."""
    import yaml

    text = (Path(__file__).parent / "texts" / "prompts.yaml").read_text("utf-8")
    names = {key: list(world()[key]) for key in ("places", "times", "people")} | {
        "labels": sorted(ontology())
    }
    return yaml.safe_load(
        Template(text).safe_substitute({key: json.dumps(names[key]) for key in names})
    )


# --- the three roles ------------------------------------------------------------------------------
@dataclass
class ChatPlanner:
    """Planner, refiner and verifier through a chat model; where it fails, the rules.

    ``counts`` holds, by role, the questions, the repeated ones, and those the rules answered.
    """

    chat: Chat
    counts: Counter = field(default_factory=Counter)
    _silent: int = field(default=0, repr=False)  # questions in a row that got no answer at all
    _verdicts: dict = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What metadata say of who planned."""
        return self.chat.name

    def plan(
        self,
        rng: np.random.Generator,
        available: Collection[str] | None = None,
        bag: Sequence[str] | None = None,
        place: str | None = None,
    ) -> Scenario:
        """As `scenario.plan`; the bag is drawn here, the model makes a scene of it."""
        known = sorted(set(ontology() if available is None else available) & set(ontology()))
        drawn = [*(bag or ()), *(known[i] for i in rng.permutation(len(known)))][:BAG]
        ruled, seed = plan(rng, available, bag, place), int(rng.integers(2**31))
        asked = {"bag": ", ".join(dict.fromkeys(drawn)), "must": ", ".join(bag or ()) or "anything"}
        said = self._ask("plan", seed, **asked, place=place or "where you like")
        if said is None:
            return replace(ruled, planner=f"rules, for {self.name}")
        events = tuple(PlannedEvent(**event) for event in said["events"] if event["label"] in known)
        places = tuple(dict.fromkeys(said["places"]))
        about = {key: said[key] for key in ("time", "people", "sentence")}
        ways = tuple(door(a, b) for a, b in pairwise(places))
        return Scenario(places, **about, events=events, doors=ways, planner=self.name)

    def refine(self, scenario: Scenario) -> Scenario:
        """As `scenario.refine`, with the model's descriptions and queries where it made the
        plan."""
        if scenario.planner != self.name:
            return refine(scenario)
        plain = [replace(event, description="", query="") for event in scenario.events]
        scenario = refine(replace(scenario, events=tuple(plain)))
        about = [{k: getattr(e, k) for k in ("label", "role", "place")} for e in scenario.events]
        seed = len(scenario.sentence)  # any, but the same for the same plan
        said = self._ask("refine", seed, sentence=scenario.sentence, events=json.dumps(about))
        if said is None or len(said["events"]) != len(scenario.events):
            return scenario
        events = (replace(e, **new) for e, new in zip(scenario.events, said["events"], strict=True))
        return replace(scenario, events=tuple(events))

    def verify(self, need: PlannedEvent, entry: Entry, facts: Facts) -> Verdict:
        """As `grounding.verify`; the same clip, need and length (to half a second) are asked
        once."""
        key = (
            need.label,
            round(need.seconds * 2),
            entry.source,
            entry.name,
            round(facts.seconds, 1),
            facts.whole,
        )
        if key not in self._verdicts:
            about = {k: getattr(need, k) for k in ("label", "description", "seconds")}
            about |= {"entry_label": entry.label, "caption": entry.caption}
            said = self._ask("verify", 0, **about, facts=json.dumps(asdict(facts)))
            ruled = Rules().verify(need, entry, facts)
            if said is not None:
                decision = said["decision"] if said["identity"] else "reject"
                ruled = Verdict(decision, f"{self.name} says: {said['reason']}")
            self._verdicts[key] = ruled
        return self._verdicts[key]

    def summary(self) -> str:
        """One line: how often the model was asked, asked again, and given up on."""
        total = {what: sum(n for (_, kind), n in self.counts.items() if kind == what)
                 for what in ("asked", "again", "rules")}  # fmt: skip
        return (f"{self.name}: {total['asked']} questions, {total['again']} asked again, "
                f"{total['rules']} answered by the rules")  # fmt: skip

    def _ask(self, role: str, seed: int, **values: object) -> dict | None:
        """A validated answer, or None where the rules must do: three tries, each told the last
        error."""
        self.counts[role, "asked"] += 1
        if self._silent >= DEAD_AFTER:
            self.counts[role, "rules"] += 1
            return None
        book, error, heard = prompts()[role], "", False
        system = book["system"].replace("{schema}", json.dumps(book["schema"]))
        question = [_message("system", system), _message("user", book["user"].format(**values))]
        messages = question
        for i in range(TRIES):
            self.counts[role, "again"] += i > 0
            try:
                text = self.chat(messages, seed + i)
                heard, self._silent = True, 0
                return _validated(text, book["schema"])
            except NoAnswer as no_answer:
                error = str(no_answer)
                time.sleep(PAUSE_S * 2**i if i + 1 < TRIES else 0)
            except ValueError as wrong:
                error = str(wrong)
                retry = prompts()["retry"].format(error=error)
                messages = [*question, _message("assistant", text[:2000]), _message("user", retry)]
        self._give_up(role, error, heard)
        return None

    def _give_up(self, role: str, error: str, heard: bool) -> None:
        """Count it, and warn: of the first, the second, the fourth, the eighth ... and of the
        end."""
        self.counts[role, "rules"] += 1
        self._silent += not heard
        n, dead = self.counts[role, "rules"], self._silent == DEAD_AFTER
        if dead or n & (n - 1) == 0:
            end = (
                f"; after {DEAD_AFTER} questions without answer it is not asked again"
                if dead
                else ""
            )
            message = f"{self.name}: no usable answer to '{role}' in {TRIES} tries ({error})"
            warnings.warn(
                f"{message}, the rules did it{end}. So far {self.summary()}",
                RuntimeWarning,
                stacklevel=4,
            )


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _validated(text: str, schema: dict) -> dict:
    """The JSON object in a text; ValueError says what is wrong with it."""
    import jsonschema

    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError("there is no JSON object in it")
    try:
        said = json.loads(text[start : end + 1])
        jsonschema.validate(said, schema)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no valid JSON ({error})") from error
    except jsonschema.ValidationError as error:
        raise ValueError(f"{error.json_path}: {error.message[:200]}") from error
    return said


def planner_from(spec: str | None) -> Planner:
    """The planner a command line names.

    Parameters
    ----------
    spec : "rules" or None; an address like ``http://localhost:8000/v1`` or
        ``https://host/v1#MODEL``; or
        ``local:MODEL``, a folder or hub name for `transformers`

    Raises
    ------
    ValueError
        For anything else, or for an address that holds a user name or key.
    """
    if spec in (None, "rules"):
        return Rules()
    if spec.startswith("local:") and (model := spec.removeprefix("local:")):
        return ChatPlanner(LocalModel(model))
    address = urlsplit(spec)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError("no such planner; give rules, http(s)://HOST/v1#MODEL or local:MODEL")
    if address.username or address.query:
        raise ValueError(
            f"the planner's address may hold no user name or key; put the key into {KEY}"
        )
    return ChatPlanner(Endpoint(address._replace(fragment="").geturl(), address.fragment))
