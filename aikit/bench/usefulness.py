"""Is a reply useful? Its similarity to one of the acceptable answers passes a threshold (paper §4.3, App. D).

Knows texts. Does not know sounds, nor whether a reply was due. The published scorer asks a reranker of
568 million parameters (bge-reranker-v2-m3); `Reranker` is that, where its weights are at hand. The
default, `WordScorer`, needs no weights and is weaker: it knows words, not meanings, and takes a harmful
reply in the right words for a useful one. `agreement` measures how weak. Taught in notebook 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from aikit.bench.manifest import Answer, Case
from aikit.bench.stats import share
from aikit.synth.ontology import ontology

MADE_UP = Path(__file__).parent / "replies.yaml"


class Scorer(Protocol):
    """Similarity of texts, and from where on it counts."""

    name: str
    threshold: float

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """(acceptable answer, reply) pairs -> similarities ``[n]`` in [0, 1]."""


class WordScorer:
    """Cosine of TF-IDF vectors over pieces of words: what is shared, rare pieces counting more."""

    name = "words (TF-IDF)"
    threshold = 0.3  # from 0.22 to 0.40 the agreement hardly moves

    @cached_property
    def _vectors(self):
        from sklearn.feature_extraction.text import TfidfVectorizer

        known = [text for sound in ontology().values() for text in sound.replies]
        known += [text for entry in made_up().values() for text in entry["standard"]]
        return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True).fit(known)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """See `Scorer`."""
        one, two = (self._vectors.transform(texts) for texts in zip(*pairs, strict=True))
        return np.asarray(one.multiply(two).sum(axis=1)).ravel()


class Reranker:
    """A cross-encoder from a folder of weights, as the published scorer uses it.

    Parameters
    ----------
    folder : of a transformers sequence classifier with one output, e.g. bge-reranker-v2-m3
    """

    threshold = 0.5  # the published one

    def __init__(self, folder: str | Path):
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if not (Path(folder) / "config.json").is_file():
            raise FileNotFoundError(f"no reranker in {folder}: config.json is missing")
        self.name = Path(folder).name
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        if self.model.config.num_labels != 1:
            raise ValueError(
                f"{folder} has {self.model.config.num_labels} outputs; a reranker has one"
            )

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """See `Scorer`."""
        import torch

        scores = []
        for start in range(0, len(pairs), 16):
            texts = self.tokenizer(
                *map(list, zip(*pairs[start : start + 16], strict=True)),
                padding=True, truncation=True, max_length=512, return_tensors="pt",
            )  # fmt: skip
            with torch.inference_mode():
                scores.append(torch.sigmoid(self.model(**texts).logits[:, 0].float()))
        return torch.cat(scores).numpy()


def similarity(
    standard: Sequence[Sequence[str]], replies: Sequence[str], scorer: Scorer
) -> np.ndarray:
    """The best similarity of each reply to one of its acceptable answers; 0 where it has none."""
    pairs = [
        (text, reply) for texts, reply in zip(standard, replies, strict=True) for text in texts
    ]
    which = np.repeat(np.arange(len(replies)), [len(texts) for texts in standard])
    best = np.zeros(len(replies))
    if pairs:
        np.maximum.at(best, which, scorer(pairs))
    return best


def useful_replies(
    cases: Sequence[Case], answers: dict[str, Answer], scorer: Scorer, seed: int = 0
) -> dict | None:
    """How many replies that were due came and are useful; None if no case says what is acceptable.

    Returns
    -------
    dict
        ``useful``: {n, share, interval} of all cases that deserve a reply and have acceptable answers;
        ``useful_if_hit``: of those that got one; ``scorer`` and ``threshold``.
    """
    due = [case for case in cases if case.decision == "RESPOND" and case.standard_answers]
    if not due:
        return None
    said = [a.reply if (a := answers.get(c.id)) and a.given == "RESPOND" else "" for c in due]
    near = similarity([case.standard_answers for case in due], said, scorer) >= scorer.threshold
    hit = np.array([bool(text) for text in said])
    return {
        "useful": share(near & hit, seed=seed),
        "useful_if_hit": share(near[hit], seed=seed),
        "scorer": scorer.name,
        "threshold": scorer.threshold,
    }


# --- can the scorer be trusted? --------------------------------------------------------------------
def made_up() -> dict[str, dict]:
    """Sounds with acceptable answers, replies that help and replies that do not."""
    import yaml

    return yaml.safe_load(MADE_UP.read_text("utf-8"))


def agreement(scorer: Scorer, seed: int = 0) -> dict:
    """How often a scorer agrees with the labels of the made-up replies.

    Returns
    -------
    dict
        ``agrees``: {n, share, interval}, resampled by sound; ``auc``: the chance that a good reply scores
        higher than a bad one; ``by_kind``: the share right of good, needless, other and wrong replies.
    """
    rows = [(sound, kind, entry["standard"], text)
            for sound, entry in made_up().items() for kind in ("good", "needless", "other", "wrong")
            for text in (entry[kind] if kind == "good" else [entry[kind]])]  # fmt: skip
    sounds, kinds, standard, texts = zip(*rows, strict=True)
    scores, good = similarity(standard, texts, scorer), np.array(kinds) == "good"
    right = (scores >= scorer.threshold) == good
    higher = scores[good][:, None] - scores[~good]
    by_kind = {kind: float(right[np.array(kinds) == kind].mean()) for kind in dict.fromkeys(kinds)}
    return {
        "scorer": scorer.name,
        "agrees": share(right, sounds, seed),
        "auc": float(((higher > 0) + 0.5 * (higher == 0)).mean()),
        "by_kind": by_kind,
    }
