"""Grounding: from a planned event to a clip, and why this one (paper §3.2, "clip grounding").

Knows retrieval over what is written about clips, the cascade accept / reprocess / reject, and the
generator as the last resort. Does not know how a clip is judged (`verifier.py`), scenes
(`scenario.py`) or streams. Taught in notebook 01.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from aikit.audio import SAMPLE_RATE
from aikit.synth import scenario as rules
from aikit.synth.clips import Clip, ClipError, ClipLibrary, Entry
from aikit.synth.ontology import ontology
from aikit.synth.scenario import PlannedEvent, Scenario
from aikit.synth.sounds import SOUNDS, make_sound
from aikit.synth.tfjp import tfjp
from aikit.synth.verifier import Facts, Verdict, measure, reprocess, verify

TOP = 3  # clips that are tried before the generator
NEAR = (
    0.6  # of the best score: as good as the best, so that every recording of a sound has its turn
)
Embed = Callable[[list[str]], np.ndarray]  # texts -> [n, d]


@dataclass(frozen=True)
class Decision:
    """Why a clip was taken: one line of a stream's metadata."""

    label: str
    role: str
    query: str
    wanted_s: float
    outcome: str  # accept | reprocess | generated
    clip: str  # "source/name"
    why: str  # every clip that was tried and what was said of it


@dataclass(frozen=True)
class Grounded:
    """A clip and the decision behind it."""

    clip: Clip
    decision: Decision


class Planner(Protocol):
    """The three roles of event curation; `Rules` here, a language model in `chat.py`."""

    name: str

    def plan(self, rng, available=None, bag=None, place=None) -> Scenario:
        """As `scenario.plan`."""

    def refine(self, scenario: Scenario) -> Scenario:
        """As `scenario.refine`."""

    def verify(self, need: PlannedEvent, entry: Entry, facts: Facts) -> Verdict:
        """As `verify`."""


class Rules:
    """The embedded planner, refiner and verifier."""

    name = "rules"

    def plan(self, rng, available=None, bag=None, place=None) -> Scenario:
        """As `scenario.plan`."""
        return rules.plan(rng, available, bag, place)

    def refine(self, scenario: Scenario) -> Scenario:
        """As `scenario.refine`."""
        return rules.refine(scenario)

    def verify(self, need: PlannedEvent, entry: Entry, facts: Facts) -> Verdict:
        """As `verify`."""
        return verify(need, entry, facts)


# --- retrieval and the cascade --------------------------------------------------------------------
@dataclass
class Grounder:
    """Finds clips for planned events in one library. The text index is made once, and every clip is
    measured once.

    Parameters
    ----------
    library : where clips are looked for
    planner : whose `verify` decides
    held_out : the generator too draws from the held-out half
    embed : sentence embeddings for retrieval; TF-IDF when None
    """

    library: ClipLibrary
    planner: Planner = field(default_factory=Rules)
    held_out: bool = False
    embed: Embed | None = None
    _found: dict[str, dict[str, list[Entry]]] = field(default_factory=dict, repr=False)
    _facts: dict[Entry, Facts] = field(default_factory=dict, repr=False)

    @cached_property
    def _documents(self) -> dict[str, list[Entry]]:
        """What is written about clips -> the clips of which this is written."""
        documents: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.library.entries:
            sound = ontology().get(entry.label)
            known = [sound.caption, *sound.tags] if sound else []
            words = [entry.label.replace("_", " "), entry.caption, entry.text, *known]
            documents[" ".join(filter(None, words))].append(entry)
        return documents

    @cached_property
    def _index(self) -> tuple[Embed, np.ndarray]:
        """The embedding, and the documents under it: unit rows [n, d]."""
        if self.embed is not None:
            return self.embed, _unit(self.embed(list(self._documents)))
        from sklearn.feature_extraction.text import TfidfVectorizer

        # pieces of words, so that "barking" finds "bark"
        vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
        vectors = vectoriser.fit_transform(self._documents)
        return vectoriser.transform, vectors

    def search(self, query: str) -> dict[str, list[Entry]]:
        """Clips whose words are nearest to a query, or nearly so, by source."""
        if query not in self._found:
            embed, vectors = self._index
            asked = embed([query])
            scores = vectors @ (_unit(asked).T if self.embed else asked.T)
            scores = np.asarray(scores if self.embed else scores.toarray())[:, 0]
            near = np.flatnonzero(scores >= max(NEAR * scores.max(), 1e-6))
            pool: dict[str, list[Entry]] = defaultdict(list)
            for i in near:
                for entry in list(self._documents.values())[i]:
                    pool[entry.source].append(entry)
            self._found[query] = dict(sorted(pool.items()))
        return self._found[query]

    def candidates(self, query: str, rng: np.random.Generator, k: int = TOP) -> list[Entry]:
        """Up to ``k`` clips of those found: first a source, then a clip, so that no source drowns
        another."""
        pool, chosen = self.search(query), []
        for _ in range(min(k, sum(map(len, pool.values())))):
            sources = [s for s, entries in pool.items() if any(e not in chosen for e in entries)]
            entries = [e for e in pool[sources[rng.integers(len(sources))]] if e not in chosen]
            chosen.append(entries[rng.integers(len(entries))])
        return chosen

    def ground(self, need: PlannedEvent, rng: np.random.Generator) -> Grounded:
        """Find, judge and if need be mend or generate a clip for an event (paper §3.2).

        Raises
        ------
        ValueError
            If no clip passes and nothing generates such a sound.
        """
        tried: list[str] = []
        for entry in self.candidates(need.query, rng):
            if (found := self._try(need, entry, tried)) is not None:
                return found
        return self._generate(need, rng, tried)

    def _try(self, need: PlannedEvent, entry: Entry, tried: list[str]) -> Grounded | None:
        """One step of the cascade; notes in ``tried`` what was said."""
        name = f"{entry.source}/{entry.name}"
        if entry.label in ontology() and entry.label != need.label:
            tried.append(f"{name}: reject, identity: it is {entry.label}")  # not worth loading
            return None
        try:
            clip = self.library.get(entry)
        except ClipError as error:
            tried.append(f"{error}: reject, cannot be read")
            return None
        if entry not in self._facts:
            self._facts[entry] = measure(clip.waveform)
        verdict = self.planner.verify(need, entry, self._facts[entry])
        tried.append(f"{name}: {verdict.decision}, {verdict.reason}")
        if verdict.decision == "reject":
            return None
        if verdict.decision == "reprocess":
            clip = self._mended(need, entry, clip, tried)
        return clip and _grounded(need, clip, verdict.decision, name, tried)

    def _mended(self, need, entry: Entry, clip: Clip, tried: list[str]) -> Clip | None:
        """The clip mended once and judged again by the same verifier."""
        try:
            waveform = reprocess(clip.waveform, need)
        except ValueError as error:
            tried.append(f"then reject: {error}")
            return None
        verdict = self.planner.verify(need, entry, measure(waveform))
        tried.append(f"then {verdict.decision}, {verdict.reason}")
        return replace(clip, waveform=waveform) if verdict.decision == "accept" else None

    def _generate(self, need: PlannedEvent, rng: np.random.Generator, tried: list[str]) -> Grounded:
        """A new procedural sound; its own length is right, the rest the verifier judges."""
        if need.label not in SOUNDS:
            raise ValueError(
                f"no clip passed for {need.label!r} and nothing generates it ({'; '.join(tried)})"
            )
        seed = int(rng.integers(2**30)) * 2 + self.held_out
        waveform = tfjp(make_sound(need.label, seed, held_out=self.held_out)).waveform
        entry = Entry(lambda: waveform, need.label, "procedural", f"{need.label}-{seed}")
        own = replace(need, seconds=len(waveform) / SAMPLE_RATE)
        verdict = self.planner.verify(own, entry, measure(waveform))
        tried.append(f"generated: {verdict.decision}, {verdict.reason}")
        if verdict.decision == "reject":
            raise ValueError(
                f"no clip passed for {need.label!r}, nor a generated one ({'; '.join(tried)})"
            )
        clip = Clip(waveform, need.label, entry.source, entry.name)
        return _grounded(need, clip, "generated", f"{entry.source}/{entry.name}", tried)


def _grounded(
    need: PlannedEvent, clip: Clip, outcome: str, name: str, tried: list[str]
) -> Grounded:
    about = (need.label, need.role, need.query, need.seconds)
    return Grounded(
        replace(clip, label=need.label), Decision(*about, outcome, name, "; ".join(tried))
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def ground(need: PlannedEvent, library: ClipLibrary, rng: np.random.Generator) -> Grounded:
    """`Grounder.ground` for one event; for many, keep a `Grounder`: it indexes and measures
    once."""
    return Grounder(library).ground(need, rng)


def sentence_embedder(model: str) -> Embed:
    """Sentence embeddings by any encoder of `transformers`, a folder or a hub name: the mean of its
    last states. Give it to `Sources.embed` or `Grounder`.

    Raises
    ------
    OSError
        If there are no such weights.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = (
        AutoTokenizer.from_pretrained(model),
        AutoModel.from_pretrained(model).eval(),
    )

    def embed(texts: list[str]) -> np.ndarray:
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            states = encoder(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        return ((states * mask).sum(1) / mask.sum(1)).numpy()

    return embed
