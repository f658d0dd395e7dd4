"""Which heads decide, and do they decide in everything that the model can do (paper §5)?

Knows abilities, effects, intervals and ranks. Does not know how a head is silenced (`inside.py`). Taught
in notebook 05.

Three effects of silencing a head, all with the past kept as it was: *lost*, the share of responses that
become silence; *broken*, the share of silences that become a response (the paper's token match falls by
both); *shift*, how far the log-odds of responding move, which ranks also the heads that change nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aikit.bench import inside
from aikit.bench.stats import interval, resampled
from aikit.bench.streams import SEED_OFFSET
from aikit.synth.abilities import ABILITIES, Sources, make_stream
from aikit.tokens import DEFAULT_INSTRUCTION

N_CHUNKS = 45
TOP = 5


@dataclass(frozen=True)
class Effects:
    """What silencing heads did: one row a stream, so that whole streams can be resampled.

    ``sums``: name -> ``[n, ...]``; ``counts``: name -> ``[n]``, what the sums are divided by.
    """

    sums: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]

    def mean(self, name: str) -> np.ndarray:
        """The effect of that name over all streams; NaN where there was nothing to change."""
        with np.errstate(invalid="ignore"):
            return self.sums[name].sum(0) / self.counts[name].sum()

    def order(self) -> np.ndarray:
        """Heads (flat), the strongest first: by the mean of lost and broken, then by shift."""
        changed = np.nan_to_num(self.mean("lost")) + np.nan_to_num(self.mean("broken"))
        return np.lexsort((-self.mean("shift").ravel(), -changed.ravel()))

    def bounds(self, name: str, at: tuple[int, ...], seed: int = 0) -> list[float] | None:
        """The 95 % interval of one entry, streams resampled."""
        column = self.sums[name][(slice(None), *at)]
        drawn = resampled(np.stack([column, self.counts[name]], axis=1), seed)
        with np.errstate(invalid="ignore"):
            return interval(drawn[:, 0] / drawn[:, 1])


def log_odds(p: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)), with p kept 1e-6 away from 0 and 1."""
    p = np.clip(np.asarray(p, float), 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def effects(pairs: Sequence[tuple[np.ndarray, np.ndarray]], threshold: float) -> Effects:
    """Effects of (p(respond) ``[n]``, p(respond) without heads ``[..., n]``), one pair a stream."""
    sums, counts = ({"lost": [], "broken": [], "shift": []} for _ in range(2))
    for before, without in pairs:
        responds, changed = before >= threshold, (without >= threshold) != (before >= threshold)
        sums["shift"].append(np.abs(log_odds(without) - log_odds(before)).sum(-1))
        sums["lost"].append(changed[..., responds].sum(-1))
        sums["broken"].append(changed[..., ~responds].sum(-1))
        for name, n in (
            ("shift", len(before)),
            ("lost", responds.sum()),
            ("broken", (~responds).sum()),
        ):
            counts[name].append(n)
    return Effects(*({k: np.array(v, float) for k, v in part.items()} for part in (sums, counts)))


def cumulative(
    assistant, memories: Sequence[tuple], order: Sequence[int]
) -> dict[str, list[float]]:
    """Silence more and more heads together, in an order: effects after 0, 1, 2 ... heads.

    Parameters
    ----------
    memories : as `inside.remember` returns them, one a stream
    order : flat indices into ``[layers, heads]``
    """
    shape = assistant.model.shape.decoder
    silent = np.zeros((len(order) + 1, shape.layers * shape.heads), bool)
    for k, head in enumerate(order, 1):
        silent[k:, head] = True
    silent = silent.reshape(-1, shape.layers, shape.heads)
    p = [inside.p_respond(assistant.model, e, pos[:, -1] + 1, silent) for e, pos in memories]
    found = effects([(part[0], part) for part in p], assistant.config.threshold)
    return {name: found.mean(name).tolist() for name in found.sums}


def head_name(flat: int, n_heads: int) -> str:
    """As the paper writes it: L35H14."""
    return f"L{flat // n_heads}H{flat % n_heads}"


def study(
    assistant,
    abilities: Sequence[str] = tuple(ABILITIES),
    n_streams: int = 3,
    seed: int = 0,
    n_chunks: int = N_CHUNKS,
) -> dict:
    """Look inside a model on held-out streams of several abilities.

    Parameters
    ----------
    n_streams, n_chunks : how many of each ability, and how long; at 45 chunks (18 s) a stream and its
        replies stay within a session's window

    Returns
    -------
    dict
        ``continuity``: name -> {mean, interval} over streams; ``heads``: ability, and "all" -> the strongest
        heads with effects and intervals; ``shift``: ability -> ``[layers, heads]``;
        ``rank_correlation``: Spearman's, of heads by shift, between abilities; ``cumulative``: effects
        of the first 0, 1, 2 ... heads together, the strongest first and in a random order; ``seconds``.
    """
    from scipy.stats import spearmanr

    start, sources = time.perf_counter(), Sources.embedded(held_out=True, variants=8)
    streams = {
        ability: [
            make_stream(sources, SEED_OFFSET + seed * 1_000_000 + i, ability, n_chunks=n_chunks)
            for i in range(n_streams)
        ]
        for ability in abilities
    }
    flat = [stream for part in streams.values() for stream in part]
    asked = [None if s.instruction == DEFAULT_INSTRUCTION else s.instruction for s in flat]
    memories = [
        inside.remember(assistant, s.waveform, text) for s, text in zip(flat, asked, strict=True)
    ]
    ratios = [
        inside.continuity_of(assistant.model, s.waveform, memory)
        for s, memory in zip(flat, memories, strict=True)
    ]
    single, threshold = inside.each_head(assistant.model), assistant.config.threshold
    pairs = []
    for embeddings, positions in memories:
        at = positions[:, -1] + 1
        without = inside.p_respond(assistant.model, embeddings, at, single)
        pairs.append((inside.p_respond(assistant.model, embeddings, at)[0], without))
    found = {"all": effects(pairs, threshold)}
    for i, ability in enumerate(streams):
        found[ability] = effects(pairs[i * n_streams : (i + 1) * n_streams], threshold)
    order = found["all"].order()
    shifts, n_heads = {name: part.mean("shift") for name, part in found.items()}, single.shape[2]
    names = list(streams)
    return {
        "n_streams": len(flat),
        "chunks": int(found["all"].counts["shift"].sum()),
        "responses": int(found["all"].counts["lost"].sum()),
        "continuity": {name: _mean([row[name] for row in ratios], seed) for name in ratios[0]},
        "heads": {name: _top(part, n_heads, seed) for name, part in found.items()},
        "shift": {name: part.reshape(single.shape[1:]).tolist() for name, part in shifts.items()},
        "rank_correlation": [[float(spearmanr(shifts[a], shifts[b])[0]) for b in names] for a in names],
        "abilities": names,
        "cumulative": {
            "strongest first": cumulative(assistant, memories, order),
            "random": cumulative(assistant, memories, np.random.default_rng(seed).permutation(order)),
        },
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip


def _mean(values: Sequence[float], seed: int) -> dict:
    values = np.array(values)
    drawn = resampled(values[:, None], seed)[:, 0] / len(values)
    return {"mean": float(values.mean()), "interval": interval(drawn)}


def _top(found: Effects, n_heads: int, seed: int) -> list[dict]:
    """The strongest heads with their effects."""
    rows = []
    for head in found.order()[:TOP]:
        row = {"head": head_name(int(head), n_heads)}
        for name in found.sums:
            value = found.mean(name)[head]
            row[name] = float(value) if np.isfinite(value) else None
            row[f"{name}_interval"] = found.bounds(name, (int(head),), seed)
        rows.append(row)
    return rows


def show(report: dict) -> None:
    """Print continuity, the strongest heads by ability, and how far abilities agree on them."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from aikit.bench.report import with_interval

    ratios = Table("continuity ratio", "mean [95 %]", "paper", box=SIMPLE)
    paper = {"tower": "0.25", "adapter": "0.25 ± 0.02", "layer 0": "0.80"}
    for name, row in report["continuity"].items():
        ratios.add_row(name, with_interval(row["mean"], row["interval"]), paper.get(name, ""))
    heads = Table(
        "strongest heads", "", "responses lost", "silences broken", "log-odds moved", box=SIMPLE
    )
    for ability, rows in report["heads"].items():
        for i, row in enumerate(rows[:3]):
            cells = (
                with_interval(row[k], row[f"{k}_interval"]) for k in ("lost", "broken", "shift")
            )
            heads.add_row("" if i else ability, row["head"], *cells)
    ranks = Table(
        "rank correlation", *(str(i) for i in range(len(report["abilities"]))), box=SIMPLE
    )
    for i, (name, row) in enumerate(
        zip(report["abilities"], report["rank_correlation"], strict=True)
    ):
        ranks.add_row(f"{i} {name}", *(f"{value:.2f}" for value in row))
    Console().print(ratios, heads, ranks)
    for name, row in report["cumulative"].items():
        shares = " ".join(f"{value:.2f}" for value in row["lost"])
        print(f"responses lost without 0, 1, 2 ... heads, {name}: {shares}")
    print(f"{report['chunks']} decisions, {report['responses']} responses, {report['seconds']} s")
