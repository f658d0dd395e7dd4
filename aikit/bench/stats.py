"""Scores of yes/no decisions, how sure they are, and how they move with a threshold.

Knows arrays of truths, decisions and probabilities. Does not know clips, streams or models.
Taught in notebook 04.

Everything rests on four counts, in this order: hits, misses, false alarms, correct silences. An
array of them may have any leading shape, so that a thousand resamples are scored like one experiment.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

SCORES = ("accuracy", "balanced_accuracy", "majority_accuracy", "hit_rate", "false_alarm_rate",
          "mcc", "d_prime")  # fmt: skip
CURVE = ("hit_rate", "false_alarm_rate", "balanced_accuracy", "accuracy")
N_RESAMPLES = 2000


def confusion(truth: Sequence[bool], decided: Sequence[bool]) -> np.ndarray:
    """One row of counts a decision: int64 ``[n, 4]`` with a 1 at hit, miss, false alarm or silence.

    Parameters
    ----------
    truth, decided : whether a reply was due, and whether one was given, ``[n]``

    Raises
    ------
    ValueError
        If there is nothing to count, or the lengths differ.
    """
    truth, decided = np.asarray(truth, bool), np.asarray(decided, bool)
    if truth.shape != decided.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(
            f"truth {truth.shape} and decided {decided.shape}; expected two of [n > 0]"
        )
    return np.eye(4, dtype=np.int64)[2 * ~truth + ~decided]


def rates(counts: np.ndarray) -> dict[str, np.ndarray]:
    """All of `SCORES` from counts ``[..., 4]``; NaN where a score is undefined (no clip of a class).

    d' is how far apart the two kinds of clip lie for a listener, in standard deviations of its noise. Two
    clips more, of the same mix and one of them answered, keep a perfect rate from lying infinitely far.
    """
    from scipy.special import ndtri

    hits, misses, alarms, silences = np.moveaxis(np.asarray(counts, float), -1, 0)
    due, idle = hits + misses, alarms + silences

    def z(answered: np.ndarray, of: np.ndarray) -> np.ndarray:
        more = of / (due + idle)
        return ndtri((answered + more) / (of + 2 * more))

    with np.errstate(invalid="ignore", divide="ignore"):
        hit_rate, false_alarm_rate = hits / due, alarms / idle
        spread = np.sqrt(due * idle * (hits + alarms) * (misses + silences))
        return {
            "accuracy": (hits + silences) / (due + idle),
            "balanced_accuracy": (hit_rate + 1 - false_alarm_rate) / 2,
            "majority_accuracy": np.maximum(due, idle) / (due + idle),
            "hit_rate": hit_rate,
            "false_alarm_rate": false_alarm_rate,
            # a constant answer correlates with nothing: 0, by convention
            "mcc": np.where(spread > 0, (hits * silences - misses * alarms) / spread, 0.0),
            "d_prime": z(hits, due) - z(alarms, idle),
        }


def resampled(table: np.ndarray, seed: int = 0, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Bootstrap: draw as many rows as there are, with replacement, and add them up.

    ``[n, k]``, one row an independent unit (a clip, a whole stream) -> ``[n_resamples, k]``.
    """
    n = len(table)
    times_drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
    return times_drawn @ table


def interval(values: np.ndarray) -> list[float] | None:
    """The middle 95 % of bootstrap values; None where most of them are undefined."""
    finite = values[np.isfinite(values)]
    return np.percentile(finite, (2.5, 97.5)).tolist() if 2 * len(finite) > len(values) else None


def decision_scores(
    truth: Sequence[bool], decided: Sequence[bool], groups: Sequence | None = None, seed: int = 0
) -> dict:
    """Every score of a set of decisions, with 95 % bootstrap intervals.

    Parameters
    ----------
    truth, decided : ``[n]``, as for `confusion`
    groups : what is resampled together (the stream of an event), ``[n]``; None = each by itself

    Returns
    -------
    dict
        ``n``, each of `SCORES` (None if undefined), and ``intervals``: score -> [low, high] or None.
    """
    table = confusion(truth, decided)
    if groups is not None:
        _, group = np.unique(groups, return_inverse=True)
        table = np.stack([np.bincount(group, column) for column in table.T], axis=1)
    drawn, values = rates(resampled(table, seed)), rates(table.sum(0))
    scores = {name: _defined(value) for name, value in values.items()}
    return {"n": len(truth), **scores, "intervals": {k: interval(drawn[k]) for k in SCORES}}


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def share(right: Sequence[bool], groups: Sequence | None = None, seed: int = 0) -> dict:
    """A share with its interval: ``{n, share, interval}``; the share of nothing is None."""
    if not len(right):
        return {"n": 0, "share": None, "interval": None}
    scores = decision_scores(np.ones(len(right), bool), right, groups, seed)
    bounds = scores["intervals"]["accuracy"]
    return {"n": len(right), "share": scores["accuracy"], "interval": bounds}


def threshold_curve(
    truth: Sequence[bool], p_respond: Sequence[float], thresholds: Sequence[float] | None = None
) -> list[dict]:
    """Scores if a reply came whenever ``p_respond [n]`` reached a threshold (0.02 to 0.98)."""
    points = []
    for threshold in np.linspace(0.02, 0.98, 49) if thresholds is None else thresholds:
        scores = rates(confusion(truth, np.asarray(p_respond, float) >= threshold).sum(0))
        point = {name: _defined(scores[name]) for name in CURVE}
        points.append({"threshold": float(threshold)} | point)
    return points


def ratio(tops: Sequence[float], bottoms: Sequence[float], seed: int = 0) -> dict:
    """Sum over sum, with its interval, of ``[n]`` and ``[n]``: ``{n, value, interval}``."""
    table = np.stack([np.asarray(tops, float), np.asarray(bottoms, float)], axis=1)
    if not table[:, 1].sum():
        return {"n": 0, "value": None, "interval": None}
    drawn = resampled(table, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        bounds = interval(drawn[:, 0] / drawn[:, 1])
    return {
        "n": len(table),
        "value": float(table[:, 0].sum() / table[:, 1].sum()),
        "interval": bounds,
    }


def mcnemar(right_a: Sequence[bool], right_b: Sequence[bool]) -> dict:
    """Do two models differ on the same clips? Only those that one of them got right can tell.

    Returns
    -------
    dict : ``both``, ``only_a``, ``only_b``, ``neither`` (clips), and ``p_value``: how likely a split of
        the disagreements at least as uneven is when both are equally good (exact binomial test).
    """
    from scipy.stats import binomtest

    counts = confusion(right_a, right_b).sum(0).tolist()
    table = dict(zip(("both", "only_a", "only_b", "neither"), counts, strict=True))
    differ = table["only_a"] + table["only_b"]
    p_value = binomtest(table["only_a"], differ).pvalue if differ else 1.0
    return table | {"p_value": float(p_value)}


def normalised(text: str) -> str:
    """Text without case, punctuation and extra space: what two equal replies share."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[^\w\s']", " ", text).split())


def word_errors(wanted: Sequence[str], said: Sequence[str], seed: int = 0) -> dict:
    """Word error rate, normalised: ``{n_words, wer, interval}``; what was never said is ``""``."""
    import jiwer

    table = []
    for reference, hypothesis in zip(map(normalised, wanted), map(normalised, said), strict=True):
        out = jiwer.process_words(reference, hypothesis)
        table.append((out.substitutions + out.deletions + out.insertions, len(reference.split())))
    if not table:
        return {"n_words": 0, "wer": None, "interval": None}
    drawn, (errors, words) = resampled(np.array(table), seed), np.sum(table, axis=0)
    bounds = interval(drawn[:, 0] / drawn[:, 1])
    return {"n_words": int(words), "wer": float(errors / words), "interval": bounds}


def shown(value: float | Sequence[float] | None) -> str:
    """A score or an interval for a table: ``0.622``, ``0.55..0.69``; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{round(value, 3) + 0.0:.3f}"  # never -0.000
    return "..".join(f"{round(bound, 2) + 0.0:.2f}" for bound in value)
