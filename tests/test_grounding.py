"""Grounding: what is found, how it is judged, mended or made, and what a stream says about it."""

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import soundfile

from aikit.synth.abilities import make_stream
from aikit.synth.clips import ClipLibrary, Entry
from aikit.synth.grounding import Grounder, Rules, ground, sentence_embedder
from aikit.synth.ontology import ontology
from aikit.synth.places import conflicts
from aikit.synth.scenario import PlannedEvent, described
from aikit.synth.script import Sources
from aikit.synth.sounds import make_sound
from aikit.synth.tfjp import tfjp
from aikit.synth.verifier import FIT, Facts, Verdict, measure, reprocess, verify

GOOD = Facts(seconds=1.2, peak_dbfs=-6.0, clipped=0.0, snr_db=40.0, whole=True)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def need(label: str = "dog_bark", seconds: float = 1.2, role: str = "foreground") -> PlannedEvent:
    return described(PlannedEvent(label, role, seconds, ontology()[label].places[0]))


def entry(
    label: str, waveform=None, source: str = "own", name: str = "a", caption: str = ""
) -> Entry:
    return Entry(lambda: waveform, label, source, name, caption)


@cache
def bark() -> np.ndarray:
    return tfjp(make_sound("dog_bark", 2)).waveform  # 1.4 s


# --- the verifier ---------------------------------------------------------------------------------
@pytest.mark.parametrize("facts, decision, reason", [
    ({}, "accept", "fits"),
    ({"seconds": 0.5}, "reject", "duration: 0.5 s for 1.2 s"),
    ({"seconds": 2.5}, "reprocess", "duration"),
    ({"snr_db": 6.0}, "reprocess", "cleanliness: noise 6 dB"),
    ({"clipped": 0.02}, "reject", "2.0 % of it is clipped"),
    ({"peak_dbfs": -50.0}, "reprocess", "peak at -50 dBFS"),
    ({"peak_dbfs": -90.0}, "reject", "silence"),
    ({"whole": False}, "reprocess", "continuity"),
])  # fmt: skip
def test_four_criteria(facts, decision, reason):
    verdict = verify(need(), entry("dog_bark"), replace(GOOD, **facts))
    assert verdict.decision == decision and reason in verdict.reason


def test_identity_is_a_matter_of_words():
    for label, decision in (("dog_bark", "accept"), ("cat_meow", "reject"), ("Dog", "accept"),
                            ("Bark", "accept"), ("Chainsaw", "reject"), ("", "reject")):  # fmt: skip
        assert verify(need(), entry(label), GOOD).decision == decision, label


def test_what_is_measured_is_true():
    noise = rng().normal(size=len(bark()) + 16_000).astype(np.float32)
    event = np.pad(bark(), 8_000)
    loud = np.sqrt(np.mean(bark()[np.abs(bark()) > 0.05] ** 2))
    assert measure(bark()).whole and measure(bark()).snr_db > 30
    assert (
        measure(event + 0.1 * loud * noise).snr_db
        < measure(event + 0.01 * loud * noise).snr_db
        < 60
    )
    assert not measure(bark()[3_000:6_000]).whole  # cut out of a running sound
    assert measure(np.clip(20 * bark(), -1, 1)).clipped > 0.01
    assert measure(np.zeros(800, np.float32)) == Facts(0.05, -200.0, 0.0, 0.0, False)


def test_reprocessing_mends_length_level_and_ends():
    rain = np.tile(make_sound("rain", 1), 3)[3_000:]
    asked = need("rain", 2.0)
    mended = measure(reprocess(1e-3 * rain, asked))
    assert mended.whole and mended.peak_dbfs > -10
    assert FIT[0] * 2 <= mended.seconds <= FIT[1] * 2
    assert verify(asked, entry("rain"), mended).decision == "accept"


# --- retrieval ------------------------------------------------------------------------------------
def test_every_clip_of_a_label_has_its_turn():
    library = ClipLibrary([entry(label, bark(), source, str(i)) for label in ("dog_bark", "cat_meow", "siren")
                           for source, n in (("big", 20), ("small", 2)) for i in range(n)])  # fmt: skip
    grounder, taken = Grounder(library), Counter()
    for seed in range(400):
        found = grounder.ground(need(), rng(seed))
        assert found.clip.label == "dog_bark" and found.decision.outcome == "accept"
        taken[found.clip.source, found.clip.name] += 1
    assert len(taken) == 22
    assert 120 < sum(n for (source, _), n in taken.items() if source == "small") < 280
    assert grounder.ground(need(), rng(3)).decision == grounder.ground(need(), rng(3)).decision


def test_foreign_labels_are_found_by_their_words():
    library = ClipLibrary([entry(label, bark(), caption=caption) for label, caption in
                           (("Dog", "barking dog"), ("Violin", "a violin"), ("Bell", "church bell"))])  # fmt: skip
    found = Grounder(library).ground(need(), rng())
    assert found.decision.clip == "own/a" and found.clip.label == "dog_bark"


def test_retrieval_by_sentence_embeddings(tmp_path):
    """The encoder is any callable; a real class of `transformers`, here with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {
        word: i for i, word in enumerate(["[PAD]", "[UNK]", "dog", "bark", "siren", "a", "outside"])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(tmp_path)
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    BertModel(BertConfig(vocab_size=len(vocabulary), **small)).save_pretrained(tmp_path)
    embed = sentence_embedder(str(tmp_path))
    assert embed(["dog bark", "a siren outside"]).shape == (2, 16)
    library = ClipLibrary([entry("dog_bark", bark()), entry("siren", bark())])
    flat = Grounder(
        library, embed=lambda texts: np.array([["dog" in t, "siren" in t] for t in texts], float)
    )
    assert {e.label for es in flat.search("a dog outside").values() for e in es} == {"dog_bark"}
    assert Grounder(library, embed=embed).ground(need(), rng()).clip.label == "dog_bark"


# --- the cascade ----------------------------------------------------------------------------------
def test_bad_clips_are_passed_over_and_the_log_says_why(tmp_path):
    for name, waveform in (("short", bark()[:800]), ("silent", np.zeros(16_000)), ("fine", bark())):
        (tmp_path / "dog_bark").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "dog_bark" / f"{name}.wav", waveform, 16_000)
    (tmp_path / "dog_bark" / "corrupt.flac").write_bytes(b"fLaC and nothing more")
    grounder = Grounder(ClipLibrary.folder(tmp_path))
    found = [grounder.ground(need(), rng(seed)).decision for seed in range(60)]
    why = " ".join(decision.why for decision in found)
    assert (
        "corrupt.flac" in why
        and "cannot be read" in why
        and "duration: 0.1 s" in why
        and "silence" in why
    )
    assert {d.clip.split("/")[-1] for d in found if d.outcome == "accept"} == {"fine.wav"}
    generated = [d for d in found if d.outcome == "generated"]
    assert generated and all(d.why.count("reject") == 3 for d in generated)


def test_the_generator_is_the_last_resort():
    library = ClipLibrary([entry("dog_bark", bark()[:3_200], name=str(i)) for i in range(3)])
    found = ground(need(seconds=4.0), library, rng())
    assert found.decision.outcome == "generated" and found.clip.source == "procedural"
    own = replace(need(), seconds=found.clip.duration_s)
    assert verify(own, entry("dog_bark"), measure(found.clip.waveform)).decision == "accept"
    held = [
        Grounder(library, held_out=half).ground(need(seconds=4.0), rng()).clip.name
        for half in (False, True)
    ]
    assert int(held[0].split("-")[1]) % 2 == 0 and int(held[1].split("-")[1]) % 2 == 1
    assert (
        ground(need("siren", 3.0), library, rng()).clip.label == "siren"
    )  # of which there is none


def test_a_verifier_that_never_agrees_is_an_error():
    class Never(Rules):
        def verify(self, need, entry, facts):
            return Verdict("reject", "no")

    with pytest.raises(ValueError, match="no clip passed for 'dog_bark', nor a generated one"):
        Grounder(ClipLibrary([entry("dog_bark", bark())]), Never()).ground(need(), rng())


# --- must show c ----------------------------------------------------------------------------------
@pytest.mark.slow
def test_three_hundred_scenes(shared_data, capsys):
    """No excluded overlap, every reply where its event ends, and the shares of the cascade."""
    mixed = Sources.embedded(variants=2)
    mixed.sounds += ClipLibrary.esc10(shared_data / "esc10").prepared(lambda x: tfjp(x).waveform)
    streams = [make_stream(mixed, seed, n_chunks=40) for seed in range(300)]
    for stream in streams:
        noise = [d.label for d in stream.grounding if d.role.startswith("noise")]
        assert conflicts(stream.events, noise) == []
        due = sorted((e.chunk(), e.reply) for e in stream.events if e.reply is not None)
        assert due == sorted((reply.chunk, reply.text) for reply in stream.timeline)
        clips = {d.clip.split("/", 1)[1] for d in stream.grounding}
        assert {event.name for event in stream.events} <= clips
        assert stream.scenario["sentence"] and stream.scenario["planner"] == "rules"
    outcomes = Counter(d.outcome for stream in streams for d in stream.grounding)
    sought = {k: n for k, n in outcomes.items() if k in ("accept", "reprocess", "generated")}
    rejected = sum(d.why.count("reject") for stream in streams for d in stream.grounding)
    assert sum(sought.values()) > 700 and sought["accept"] > sought["reprocess"] > 0
    with capsys.disabled():
        n = sum(sought.values())
        shares = ", ".join(f"{k} {100 * v / n:.1f} %" for k, v in sorted(sought.items()))
        print(f"\n300 scenes, {n} events grounded: {shares}; {rejected} candidates rejected")
