"""Wordings and grammars: many ways to say it, correct in three languages, some combinations held out."""

import numpy as np
import pytest

from aikit.synth import grammar
from aikit.synth.abilities import all_texts
from aikit.synth.grammar import covered, in_languages, language, translated, variants, word
from aikit.synth.script import phrases


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_wording_makes_its_choices():
    said = {word("[Please |]count a [{name}|dog][.|!]", rng(i), name="owl") for i in range(60)}
    assert said == {
        f"{p}ount {x}{e}" for p in ("Please c", "C") for x in ("an owl", "a dog") for e in ".!"
    }
    assert variants(["[Please |]count a [{name}|dog][.|!]"]) == 8
    assert list(covered("[a|b|c] [x|y]")) == ["a x", "b y", "c x"]


@pytest.mark.parametrize("act", phrases()["acts"])
def test_an_instruction_has_hundreds_of_wordings_and_one_acknowledgement(act):
    book, openers = phrases()["acts"][act], set(phrases()["openers"])
    assert variants(book["say"]) * len(openers) >= 200 and isinstance(book["ack"], str)
    assert "[" not in book["say"][0] and "[" not in book["ack"] + book.get("reply", "")


def test_questions_have_a_hundred_wordings_too():
    book, called = phrases(), len(set(phrases()["called"]))
    for kind in set(book["understanding"]) - {"answers", "places"}:
        assert variants(book["understanding"][kind]) * called >= 100, kind
    assert sum(variants(kind["tell"]) for kind in book["chat"]["slots"].values()) >= 25
    assert sum(variants(small["ask"]) for small in book["chat"]["small_talk"]) * called >= 100


@pytest.mark.parametrize(
    "en, es, zh",
    [
        ("the house is cold", "la casa está fría", "房子很冷"),
        ("this car is new", "este coche es nuevo", "这个汽车是新的"),
        ("they look for an egg tomorrow", "ellos buscan un huevo mañana", "他们明天找一个鸡蛋"),
        ("she goes to the market today", "ella va al mercado hoy", "她今天去市场"),
        ("we come to the beach now", "venimos a la playa ahora", "我们现在来海滩"),
        ("where is my key", "dónde está mi llave", "我的钥匙在哪里"),
    ],
)
def test_translations_agree_in_gender_number_and_person(en, es, zh):
    drawn = (translated(rng(i), held) for i in range(8_000) for held in (True, False))
    found = next(text for text in drawn if text.en == en)
    assert (found.es, found.zh) == (es, zh)


def test_every_part_of_a_translation_has_its_forms():
    for family in language()["translation"]:
        forms = {row[3] for rows in family["slots"].values() for row in rows if len(row) > 3}
        for row in (row for rows in family["slots"].values() for row in rows):
            assert all(len(str(cell).split("/")) in (1, len(forms)) for cell in row[:3]), row
        values = {name: rows[0] for name, rows in family["slots"].items()}
        assert all(vars(in_languages(family, values)).values())


@pytest.mark.parametrize(
    "make", [grammar.sentence, grammar.command, grammar.house, grammar.translated]
)
def test_held_out_combinations_are_never_said_in_training(make):
    def say(seed: int, held: bool) -> str:
        made = make(rng(seed), held)
        return made.en if make is translated else str(made)

    said = [{say(i, held) for i in range(1500)} for held in (False, True)]
    assert not said[0] & said[1]
    assert len(said[0]) > 150 and len(said[1]) > 50
    both = [{token for text in part for token in text.split()} for part in said]
    assert len(both[1] - both[0]) <= 0.05 * len(both[1])  # new combinations of known words


def test_one_combination_in_five_is_held_out():
    held = [grammar.held_out(str(i), str(j)) for i in range(60) for j in range(60)]
    assert 0.17 < np.mean(held) < 0.23


def test_the_tokenizer_sees_every_word_that_is_written():
    texts = all_texts()
    known = {token for text in texts for token in text.split()}
    written = [translated(rng(i), i % 2 == 0) for i in range(400)]
    said = [side for text in written for side in (text.en, text.es)]
    said += [grammar.sentence(rng(i), False) for i in range(400)]
    said += [grammar.command(rng(i), False) for i in range(400)]
    said += [grammar.fact(rng(i), False)[1] for i in range(400)]
    assert not {token for text in said for token in text.split()} - known
    assert len(set(texts)) < 10_000 and not any("{" in text or "[" in text for text in texts)
