"""How the field scores text: WER, BLEU, multiple choice, closed questions, and a language model as judge.

Knows references and replies. Does not know audio, models or files. Taught in notebook 07.

Every scorer takes items and their replies and returns a dict: ``n``, ``score`` (None if there is nothing
to score by), ``interval`` (95 %, bootstrap over items; None for BLEU) and ``how``, which a table has to
name beside the number. An empty reply counts as a wrong one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from aikit.bench.stats import interval, normalised, resampled

if TYPE_CHECKING:
    from aikit.bench.items import Item

Judge = Callable[
    [list[dict[str, str]], int], str
]  # as `aikit.synth.chat.Endpoint`: messages, seed -> JSON

TRIES = 3
OPEN_QUESTION = (
    "You judge a voice assistant. Given what a user said and the assistant's reply, rate helpfulness, "
    "relevance, accuracy and brevity from 1 (useless) to 5 (excellent). Answer with JSON only: "
    '{"score": n}.\n\nUser: %(question)s\nAssistant: %(reply)s'
)
CLOSED_QUESTION = (
    "Given a question, a reference answer and a candidate's answer, say whether the candidate is correct. "
    'Answer with JSON only: {"score": 1} if it is, {"score": 0} if not.\n\n'
    "Question: %(question)s\nReference: %(reference)s\nCandidate: %(reply)s"
)


@cache
def whisper_normaliser() -> Callable[[str], str]:
    """Whisper's English normaliser, with its table of spellings (`transformers` has only the code)."""
    from importlib.resources import files

    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    table = files("whisper_normalizer") / "normalizers" / "english.json"
    return EnglishTextNormalizer(json.loads(table.read_text("utf-8")))


def word_error_rate(items: Sequence[Item], replies: Sequence[str]) -> dict:
    """WER in %, on Whisper-normalised text; items whose reference normalises to nothing are left out."""
    import jiwer

    normalise, counts = whisper_normaliser(), []
    for item, reply in zip(items, replies, strict=True):
        if reference := normalise(item.references[0]):
            out = jiwer.process_words(reference, normalise(reply))
            errors = out.substitutions + out.deletions + out.insertions
            counts.append((errors, len(reference.split())))
    how = f"Whisper's English normaliser, jiwer; {sum(n for _, n in counts)} words"
    return _ratio(np.array(counts).reshape(-1, 2), how)


def _ratio(counts: np.ndarray, how: str) -> dict:
    """Sum of the first column over that of the second, in %."""
    if not len(counts):
        return {"n": 0, "score": None, "interval": None, "how": how}
    drawn, (part, whole) = resampled(counts), counts.sum(0)
    bounds = interval(100 * drawn[:, 0] / drawn[:, 1])
    return {"n": len(counts), "score": float(100 * part / whole), "interval": bounds, "how": how}


def _share(right: Sequence[bool], how: str) -> dict:
    return _ratio(np.array([(bool(r), 1) for r in right]).reshape(-1, 2), how)


def bleu(items: Sequence[Item], replies: Sequence[str], tokenize: str = "13a") -> dict:
    """Corpus BLEU by sacrebleu; its signature is in ``how``."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize=tokenize)
    result = {"n": len(items), "score": None, "interval": None, "how": ""}
    if items:
        result["score"] = metric.corpus_score(
            list(replies), [[i.references[0] for i in items]]
        ).score
        result["how"] = str(metric.get_signature())
    return result


def bleu_zh(items: Sequence[Item], replies: Sequence[str]) -> dict:
    """BLEU of Chinese: each character a word."""
    return bleu(items, replies, "zh")


def choices(items: Sequence[Item], replies: Sequence[str]) -> dict:
    """Multiple choice in %, as MMAU counts: all words of the right choice, none that only others have."""
    right = [
        chosen(i.references[0], reply, i.choices) for i, reply in zip(items, replies, strict=True)
    ]
    return _share(right, "MMAU's string match")


def chosen(answer: str, reply: str, options: Sequence[str]) -> bool:
    """Whether a reply names the right choice and no other."""
    wanted, said = _words(answer), _words(reply)
    others = {
        word for option in options if _words(option) != wanted for word in _words(option) - wanted
    }
    return bool(said) and wanted <= said and not said & others


def _words(text: str) -> set[str]:
    return set(re.findall(r"\b\w+\b", text.lower()))


def contained(items: Sequence[Item], replies: Sequence[str]) -> dict:
    """Closed questions in %: one of the accepted answers stands in the reply, as whole words."""
    right = [
        any(
            f" {normalised(ref)} " in f" {normalised(reply)} "
            for ref in item.references
            if normalised(ref)
        )
        for item, reply in zip(items, replies, strict=True)
    ]
    return _share(right, "an accepted answer is in the reply")


# --- a judge -----------------------------------------------------------------------------------------
def judged(item: Item, reply: str, prompt: str, judge: Judge, allowed: range) -> int:
    """One verdict, a whole number.

    Raises
    ------
    ValueError
        If the judge gives none in three tries: a guess in its place would falsify the score.
    """
    from aikit.synth.chat import NoAnswer

    said = {"question": item.question, "reference": "; ".join(item.references), "reply": reply}
    messages = [{"role": "user", "content": prompt % said}]
    for seed in range(TRIES):
        try:
            text = judge(messages, seed)
        except NoAnswer as error:
            text = str(error)
        found = re.search(r'\{\s*"score"\s*:\s*(\d+)\s*\}', text)
        if found and int(found[1]) in allowed:
            return int(found[1])
    raise ValueError(
        f"the judge gave no score from {allowed[0]} to {allowed[-1]} to {item.id} in {TRIES} tries "
        f"({text[:80]!r}); the same command goes on from there"
    )


def opinion(scores: Sequence[int], name: str) -> dict:
    """Mean of verdicts from 1 to 5."""
    result = _ratio(np.array([(s, 1) for s in scores]).reshape(-1, 2), f"judge {name}, 1 to 5")
    if result["score"] is not None:
        result["score"] /= 100
        result["interval"] = [bound / 100 for bound in result["interval"]]
    return result


def verdicts(scores: Sequence[int], name: str) -> dict:
    """Share of verdicts "correct", in %."""
    return _share([s == 1 for s in scores], f"judge {name}, correct or not")
