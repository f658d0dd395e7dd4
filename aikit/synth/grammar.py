"""Wordings and grammars: much to say from little text, and combinations that training never hears.

Knows ``texts/phrases.yaml`` (wordings) and ``texts/language.yaml`` (sentences from parts). Does not know
when something is said (`recipes.py`) or what it asks for (`rules.py`). Taught in notebook 01.

A wording such as ``"[Please |]count the {plural}."`` stands for all its choices and slots. Everything
put together from slots (sentences, commands, translations, sums) is *held out* by a hash of the slots'
values: one combination in five is never said in training, and only these are said in held-out streams.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle, product
from math import prod
from pathlib import Path

import numpy as np

from aikit.synth.script import phrases

CHOICE = re.compile(r"\[([^\[\]]*)\]")
ONE_IN = 5  # combinations is held out
SOUND = {
    "name": ["sound"],
    "plural": ["sounds"],
    "others": ["sounds"],
    "number": ["one"],
}  # names come with the ontology


@cache
def language() -> dict:
    """The grammars of ``texts/language.yaml``."""
    import yaml

    return yaml.safe_load((Path(__file__).parent / "texts" / "language.yaml").read_text("utf-8"))


# --- wordings ----------------------------------------------------------------------------------------
def word(wording: str, rng: np.random.Generator, **values: str) -> str:
    """Say a wording: every ``[a|b|]`` takes one of its choices, every ``{slot}`` its value."""

    def choose(match: re.Match) -> str:
        options = match[1].split("|")
        return options[int(rng.integers(len(options)))]

    return spelled(CHOICE.sub(choose, wording).format(**values))


def spelled(text: str) -> str:
    """A text with "an" where it belongs; a wording's end mark beats that of what it quotes."""
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[:1].upper() + text[1:]


def variants(wordings: list[str]) -> int:
    """How many texts some wordings stand for, their slots left open."""
    return sum(prod(choice.count("|") + 1 for choice in CHOICE.findall(w)) for w in wordings)


def covered(wording: str) -> Iterator[str]:
    """A wording with each choice made at least once, its slots left open."""
    groups = [choice.split("|") for choice in CHOICE.findall(wording)]
    for i in range(max(map(len, groups), default=1)):
        options = iter(groups)
        yield CHOICE.sub(lambda _: (g := next(options))[i % len(g)], wording)  # noqa: B023


# --- combinations ------------------------------------------------------------------------------------
def held_out(*values: str) -> bool:
    """Whether training never combines these slot values."""
    return zlib.crc32("|".join(values).encode()) % ONE_IN == 0


def combine(slots: dict[str, list], rng: np.random.Generator, held: bool) -> dict:
    """Draw a value a slot, of the training or of the held-out combinations."""
    while True:
        values = {name: rows[int(rng.integers(len(rows)))] for name, rows in slots.items()}
        if (
            held_out(*(value if isinstance(value, str) else value[0] for value in values.values()))
            == held
        ):
            return values


def sentence(rng: np.random.Generator, held: bool) -> str:
    """A statement: who did what, to what, where or when."""
    return _said(language()["sentences"], rng, held)


def command(rng: np.random.Generator, held: bool) -> str:
    """An order to a person or a machine."""
    grammars = language()["commands"]
    return _said(grammars[int(rng.integers(len(grammars)))], rng, held)


def _said(grammar: dict, rng: np.random.Generator, held: bool) -> str:
    wordings = listed(grammar["say"])
    wording = wordings[int(rng.integers(len(wordings)))]
    # only what is said counts: a slot left out must not make a held-out combination of the rest
    used = {name: rows for name, rows in grammar["slots"].items() if f"{{{name}}}" in wording}
    text = CHOICE.sub(lambda match: str(rng.choice(match[1].split("|"))), wording)
    return text.format(**combine(used, rng, held))


def house(rng: np.random.Generator, held: bool) -> tuple[str, dict[str, str]]:
    """A command to the house, and its slots."""
    grammars = language()["home"]
    grammar = grammars[int(rng.choice(len(grammars), p=(0.6, 0.2, 0.2)))]
    values = combine(grammar["slots"], rng, held)
    wordings = grammar["say"]
    return word(wordings[int(rng.integers(len(wordings)))] + ".", rng, **values), values


@dataclass(frozen=True)
class Translated:
    """One meaning in three languages."""

    en: str
    es: str
    zh: str


def translated(rng: np.random.Generator, held: bool) -> Translated:
    """A sentence from aligned parts, with agreement of gender, number and person."""
    families = language()["translation"]
    family = families[int(rng.integers(len(families)))]
    return in_languages(family, combine(family["slots"], rng, held))


def in_languages(family: dict, values: dict[str, list]) -> Translated:
    """Write parts ``[English, Spanish, Chinese, form]`` in each language's order."""
    form = next((row[3] for row in values.values() if len(row) > 3), 0)

    def written(column: int, template: str) -> str:
        cells = {name: str(row[column]).split("/") for name, row in values.items()}
        return template.format(**{k: c[form] if len(c) > 1 else c[0] for k, c in cells.items()})

    return Translated(*(written(i, family[name]) for i, name in enumerate(("en", "es", "zh"))))


# --- facts -------------------------------------------------------------------------------------------
def fact(rng: np.random.Generator, held: bool) -> tuple[str, str]:
    """A question with one right answer; of sums, some are held out."""
    families = language()["facts"]
    i = int(rng.integers(len(families) + 1))
    if i == len(families):
        book, numbers = language()["sums"], language()["sums"]["numbers"]
        a, b = combine({"a": numbers[1:10], "b": numbers[1:10]}, rng, held).values()
        row = (a, b, numbers[numbers.index(a) + numbers.index(b)])
    else:
        book, rows = families[i], families[i]["rows"]
        row = rows[int(rng.integers(len(rows)))]
    ask = book["ask"][int(rng.integers(len(book["ask"])))]
    return word(ask, rng, **named(row)), book["answer"].format(**named(row))


@cache
def own_words(language: str) -> tuple[str, ...]:
    """The words of the kit's own sentences in "en" or "es", in order of the alphabet."""
    rng, said = np.random.default_rng(0), []
    for _ in range(500):
        said.append(getattr(translated(rng, False), language))
        if language == "en":
            said += sentence(rng, False), command(rng, False), house(rng, False)[0], fact(rng, False)[0]
    if language == "en":
        said += [value for slot in phrases()["chat"]["slots"].values() for value in slot["values"]]
        said += phrases()["numbers"]
    return tuple(sorted({word.strip(".,?!¿¡").lower() for text in said for word in text.split()}))


def named(row) -> dict[str, str]:
    """The slots a, b, c of a fact, and A: the first with a capital letter."""
    return dict(zip("abc", row, strict=False)) | {"A": row[0][:1].upper() + row[0][1:]}


# --- what the tokenizer must know ----------------------------------------------------------------------
def all_written() -> Iterator[str]:
    """Every word of instructions and replies at least once, where it may stand; most questions and
    chatter are only spoken, and need no tokens."""
    acts = phrases()["acts"].values()
    for act in acts:
        slots = {k: v for k, v in act.get("slots", {}).items() if k != "label"} | SOUND
        yield from filled([*act["say"], act["ack"], act.get("reply", "")], slots)
    for book in phrases()["chat"]["slots"].values():
        yield from filled([book["told"], book["answer"]], {"value": book["values"]})
    yield from (book["answer"] for book in phrases()["chat"]["small_talk"])
    places = [name.replace("_", " ") for name in phrases()["understanding"]["places"]]
    yield from filled(phrases()["understanding"]["answers"].values(), {"place": places} | SOUND)
    for grammar in language()["home"]:
        yield from filled([phrases()["chat"]["smart_home"]["reply"]], grammar["slots"])
    for grammar in (language()["sentences"], *language()["commands"]):
        yield from filled(listed(grammar["say"]), grammar["slots"], str)
    yield from (
        side
        for pair in phrases()["translation"].values()
        for both in pair["pairs"]
        for side in both
    )
    for family in language()["translation"]:
        forms = list(
            {
                row[3]: row for rows in family["slots"].values() for row in rows if len(row) > 3
            }.values()
        )
        agreeing = next(name for name, rows in family["slots"].items() if len(rows[0]) > 3)
        turn = {name: cycle(rows) for name, rows in family["slots"].items()}
        for name, rows in family["slots"].items():
            for row, form in product(rows, forms):
                values = {n: next(rest) for n, rest in turn.items()} | {agreeing: form, name: row}
                yield from vars(in_languages(family, values)).values()
    for book in language()["facts"]:
        yield from (book["answer"].format(**named(row)) for row in book["rows"])
    sums, numbers = language()["sums"], language()["sums"]["numbers"]
    for a, b in product(range(1, 10), repeat=2):
        yield sums["answer"].format(**named((numbers[a], numbers[b], numbers[a + b])))


def listed(wordings: str | list[str]) -> list[str]:
    """One wording or several, as several."""
    return [wordings] if isinstance(wordings, str) else wordings


def filled(
    wordings: Iterable[str], slots: dict[str, list[str]], write: Callable[[str], str] = spelled
) -> Iterator[str]:
    """Wordings with every choice and every slot's value at least once."""
    for wording in wordings:
        own = {name: rows for name, rows in slots.items() if f"{{{name}}}" in wording}
        for text in covered(wording):
            for i in range(max(map(len, own.values()), default=1)):
                values = {
                    name: rows[(i + j) % len(rows)] for j, (name, rows) in enumerate(own.items())
                }
                yield write(text.format(**values))
