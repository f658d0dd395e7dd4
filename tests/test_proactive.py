"""Beside the decisions: tiers made of clips, delays, replies that help, two models compared, and the verbs."""

import hashlib
import json
from itertools import product

import numpy as np
import pytest

from aikit.audio import SAMPLE_RATE, load_audio, save_audio
from aikit.bench import (
    baselines,
    compare,
    moments,
    proactive,
    recordings,
    segments,
    tiers,
    usefulness,
)
from aikit.bench.manifest import Answer, Case, CaseEvent, read_manifest, write_predictions
from aikit.bench.stats import rates
from aikit.cli import main
from aikit.synth.compose import ROLE_GAIN_DB, at_level, faded


@pytest.fixture(scope="module")
def mini():
    """Every third clip of the bundled benchmark."""
    return read_manifest(proactive.MINI_BENCH)[::3]


# --- tiers -----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def tier(mini, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tier")
    return folder, tiers.make_tier(mini, folder, 8, seed=3)


def digests(folder):
    return {
        p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*.*")
    }


def test_a_seed_gives_the_same_bytes_and_another_one_others(mini, tier, tmp_path):
    folder, made = tier
    tiers.make_tier(mini, tmp_path / "again", 8, seed=3)
    assert digests(tmp_path / "again") == digests(folder) and len(digests(folder)) == 9
    other = tiers.make_tier(mini, tmp_path / "other", 1, seed=4)
    assert load_audio(other[0].audio).tobytes() != load_audio(made[0].audio).tobytes()
    assert read_manifest(folder / "manifest.jsonl") == made


def test_a_stream_has_events_of_one_domain_and_deserves_what_they_do(mini, tier):
    by_id = {case.id: case for case in mini}
    for number, case in enumerate(tier[1]):
        front = [event for event in case.events if event.role == "foreground"]
        behind = [event for event in case.events if event.role == "background"]
        assert 2 <= len(front) <= 5 and len(behind) <= tiers.MOST_DISTRACTORS
        assert {by_id[event.id].domain for event in front} == {case.domain}
        assert all(by_id[event.id].domain != case.domain for event in behind)
        assert all(event.decision == by_id[event.id].decision for event in case.events)
        assert {event.decision for event in behind} <= {"IGNORE"}
        due = [by_id[event.id] for event in front if event.decision == "RESPOND"]
        assert (
            case.decision
            == ("RESPOND" if due else "IGNORE")
            == ("IGNORE" if number % 2 else "RESPOND")
        )
        assert set(case.standard_answers) == {text for one in due for text in one.standard_answers}
        assert len({event.id for event in case.events}) == len(case.events)
        ends = [event.end_s for event in front]
        assert all(b.start_s - a >= moments.LATE_S - 1e-6 for a, b in zip(ends, front[1:]))


def test_a_stream_holds_what_its_manifest_says_and_nothing_else(mini, tier):
    """Every stream is put together again from its manifest row and the clips alone."""
    by_id = {case.id: case for case in mini}
    for case in tier[1]:
        stream, tracks = load_audio(case.audio), []
        for event in case.events:
            clip = load_audio(by_id[event.id].audio)
            start_s, end_s = moments.sounding(clip)
            clip = clip[int(start_s * SAMPLE_RATE) : int(end_s * SAMPLE_RATE)]
            clip = faded(at_level(clip, ROLE_GAIN_DB[event.role]))
            track, first = (
                np.zeros(len(stream) + len(clip), np.float32),
                round(event.start_s * SAMPLE_RATE),
            )
            track[first : first + len(clip)] = clip
            # a distractor's place is drawn, not rounded to 0.1 ms: a sample more or less
            able = (-1, 0, 1) if event.role == "background" else (0,)
            tracks.append([np.roll(track, shift)[: len(stream)] for shift in able])
            ends_s = min(event.start_s + len(clip) / SAMPLE_RATE, len(stream) / SAMPLE_RATE)
            assert event.end_s == pytest.approx(ends_s, abs=1e-3)
        errors = []
        for mix in map(sum, product(*tracks)):
            errors.append(np.abs(stream - mix * min(1.0, 0.98 / np.abs(mix).max())).max())
        assert min(errors) < 2 / 32_768  # FLAC has 16 bits


def test_a_tier_needs_enough_clips_and_is_made_once(mini, tier, tmp_path):
    with pytest.raises(ValueError, match="no domain has the clips for a stream to IGNORE"):
        tiers.make_tier([c for c in mini if c.decision == "RESPOND"], tmp_path, 2)
    for cases, n in ((tier[1], 2), (mini, 0)):
        with pytest.raises(ValueError, match="from clips of the single tier"):
            tiers.make_tier(cases, tmp_path, n)


# --- when ------------------------------------------------------------------------------------------
def test_a_clip_sounds_from_its_first_loud_frame_to_its_last():
    tone = np.sin(np.arange(8_000)).astype(np.float32)
    quiet = np.full(4_800, 1e-4, np.float32)
    assert moments.sounding(np.concatenate([quiet, tone, quiet])) == (0.3, 0.8)
    assert moments.sounding(np.zeros(16_000, np.float32)) == (0.0, 1.0)


def stream_case(id_, *events, decision="RESPOND"):
    made = tuple(CaseEvent(f"{id_}{i}", "", *event) for i, event in enumerate(events))
    return Case(id_, None, decision, "Music", "2 events", events=made)


def test_delays_and_false_alarms_by_hand():
    a = stream_case("a", ("RESPOND", 1.0, 2.0), ("IGNORE", 4.0, 5.0), ("RESPOND", 7.0, 8.0))
    b = stream_case("b", ("IGNORE", 1.0, 2.0), decision="IGNORE")
    answers = {
        "a": Answer("RESPOND", "Go.", 0.9, (2.4, 2.8, 5.2, 9.6), 12.0),
        "b": Answer("IGNORE", "", 0.1, (), 4.0),
    }
    rows, alarms, benign_s = moments.moments(a, answers["a"])
    assert [row.delay_s and round(row.delay_s, 3) for row in rows] == [0.4, 0.2, None]
    assert (
        alarms == 2
    )  # the benign event's, and one that came too late to be anybody's; 2.8 is a repetition
    assert benign_s == pytest.approx(12 - 2 * (1 + moments.LATE_S))
    found = moments.streaming_scores([a, b], answers)
    assert found["delay_s"]["n"] == 1 and found["delay_s"]["median"] == pytest.approx(0.4)
    assert found["false_alarms_per_hour"]["value"] == pytest.approx(2 * 3600 / (7.6 + 4))
    assert (
        found["events"]["n"] == 4
        and found["events"]["hit_rate"] == 0.5 == found["events"]["false_alarm_rate"]
    )
    assert moments.streaming_scores([a], {"a": Answer("RESPOND", "Go.")}) is None  # says no times


# --- baselines -------------------------------------------------------------------------------------
def test_the_gate_is_chosen_on_the_other_half():
    truth, levels = np.arange(200) % 2 == 0, np.where(np.arange(200) % 2 == 0, -20.0, -40.0)
    assert (baselines.gated(truth, levels) == truth).all()
    assert baselines.best_gate(truth, levels) == -20.0
    noise = np.random.default_rng(0).normal(size=200)  # levels that mean nothing
    own = noise >= baselines.best_gate(truth, noise)
    paid = baselines.gated(truth, noise)

    def balanced(decided):
        counts = [
            np.sum(truth & decided),
            np.sum(truth & ~decided),
            np.sum(~truth & decided),
            np.sum(~truth & ~decided),
        ]
        return rates(np.array(counts))["balanced_accuracy"]

    assert balanced(paid) < balanced(own) and abs(balanced(paid) - 0.5) < 0.1
    assert baselines.loudest_db(np.full(16_000, 0.1, np.float32)) == pytest.approx(-20, abs=0.01)
    assert baselines.loudest_db(np.zeros(100, np.float32)) == pytest.approx(-120)


# --- usefulness ------------------------------------------------------------------------------------
def test_the_word_scorer_agrees_with_made_up_labels_as_far_as_it_says():
    found = usefulness.agreement(usefulness.WordScorer())
    assert found["agrees"]["n"] == 60 and 0.7 < found["agrees"]["share"] < 0.85
    kinds = found["by_kind"]
    assert min(kinds["good"], kinds["needless"], kinds["other"]) > 0.9
    assert kinds["wrong"] < 0.3  # stated: it takes harmful advice in the right words for useful
    assert found["auc"] > 0.75


def test_similarity_takes_the_best_of_several_answers():
    scorer = usefulness.WordScorer()
    near = usefulness.similarity([["Go outside.", "Call the fire brigade."], [], ["Go outside."]],
                                 ["Call the fire brigade.", "Anything.", ""], scorer)  # fmt: skip
    assert near[0] == pytest.approx(1) and near[1] == 0 == near[2]


def test_a_useful_reply_is_a_hit_with_the_right_words():
    cases = [
        Case(str(i), None, "RESPOND", "", "", "", ("The tap drips. Tighten it.",)) for i in range(4)
    ]
    cases += [Case("4", None, "IGNORE", "", "")]
    answers = {"0": Answer("RESPOND", "The tap drips: tighten it."), "1": Answer("RESPOND", "How are you?"),
               "2": Answer("IGNORE", "The tap drips. Tighten it.")}  # fmt: skip
    found = usefulness.useful_replies(cases, answers, usefulness.WordScorer())
    assert found["useful"]["share"] == 0.25 and found["useful_if_hit"]["share"] == 0.5
    assert usefulness.useful_replies(cases[4:], answers, usefulness.WordScorer()) is None


def test_a_reranker_is_any_classifier_with_one_output(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    with pytest.raises(FileNotFoundError, match="no reranker"):
        usefulness.Reranker(tmp_path / "nowhere")
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "go": 2, "run": 3}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(tmp_path)
    shape = {
        "vocab_size": 4,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
    }
    for labels in (1, 2):
        BertForSequenceClassification(BertConfig(**shape, num_labels=labels)).save_pretrained(
            tmp_path
        )
        if labels == 1:
            scorer = usefulness.Reranker(tmp_path)
            scores = scorer([("go", "run")] * 17 + [("go run", "go")])
            assert (
                scores.shape == (18,)
                and ((scores > 0) & (scores < 1)).all()
                and scorer.threshold == 0.5
            )
            np.testing.assert_allclose(scores[:17], scores[0], atol=1e-6)
    with pytest.raises(ValueError, match="2 outputs"):
        usefulness.Reranker(tmp_path)


# --- two models ------------------------------------------------------------------------------------
def test_a_comparison_uses_the_clips_that_only_one_gets_right(mini):
    perfect = {c.id: Answer(c.decision, "Help." if c.decision == "RESPOND" else "") for c in mini}
    silent = {c.id: Answer("IGNORE") for c in mini}
    found = compare.compare(mini, silent, perfect)
    n_due = sum(case.decision == "RESPOND" for case in mini)
    assert found["mcnemar"]["only_b"] == n_due and found["mcnemar"]["only_a"] == 0
    assert found["mcnemar"]["p_value"] == pytest.approx(2.0 ** (1 - n_due))
    gap = found["difference"]["balanced_accuracy"]
    assert gap["b_minus_a"] == 0.5 and gap["interval"] == [0.5, 0.5]
    assert sum(row["only_b"] for row in found["domains"].values()) == n_due
    same = compare.compare(mini, perfect, perfect)
    assert same["mcnemar"]["p_value"] == 1 and same["difference"]["accuracy"]["interval"] == [0, 0]


# --- real recordings -------------------------------------------------------------------------------
def test_a_folder_of_recordings_is_a_benchmark(tmp_path, capsys):
    tone = np.sin(np.arange(8_000)).astype(np.float32)
    for name in ("006 - Person sneeze/4-1-A.wav", "006 - Person sneeze/5-2-A.wav", "rain/x.wav"):
        save_audio(tmp_path / "clips" / name, tone)
    assert [c.decision for c in recordings.recording_cases(tmp_path / "clips")] == [
        "RESPOND",
        "RESPOND",
        "IGNORE",
    ]
    out = tmp_path / "m.jsonl"
    assert (
        main(["bench", "manifest", str(tmp_path / "clips"), "--folds", "4", "--out", str(out)]) == 0
    )
    assert "1 clips, 1 to respond to" in capsys.readouterr().out
    (case,) = read_manifest(out, tmp_path / "clips")
    assert (case.id, case.domain, case.description) == ("4-1-A", "Human Sound Signals", "sneeze")
    assert len(case.standard_answers) == 3
    save_audio(tmp_path / "clips" / "warp drive" / "y.wav", tone)
    with pytest.raises(ValueError, match="warp drive is no label"):
        recordings.recording_cases(tmp_path / "clips")
    with pytest.raises(ValueError, match="holds no clip"):
        recordings.recording_cases(tmp_path / "clips", (2,))


def test_esc_10_fold_4(shared_data):
    cases = recordings.recording_cases(shared_data / "esc10", (4,))
    due = {case.description for case in cases if case.decision == "RESPOND"}
    assert len(cases) == 80 and due == {"baby cry", "sneeze", "chainsaw", "fire"}


# --- segments --------------------------------------------------------------------------------------
class Parrot:
    """Answers every sound with one text when silence begins; offline it answers once."""

    def listen(self, waveform, rate):
        from aikit.stream.session import Event

        loud = [
            np.abs(waveform[at : at + 1_600]).max() > 1e-3 for at in range(0, len(waveform), 1_600)
        ]
        for i, (before, now) in enumerate(zip(loud, [*loud[1:], False])):
            if before and not now and not any(loud[i + 1 : i + 8]):
                yield Event((i + 1) * 0.1 + 0.05, "end", "The tap drips. Tighten it.", 0.9)

    def answer(self, waveform, rate):
        return "The tap drips. Tighten it."


def test_segments_are_paired_with_their_own_replies(tmp_path, capsys):
    tone, rows = 0.1 * np.sin(np.arange(16_000) / 3).astype(np.float32), []
    for i in range(6):
        save_audio(tmp_path / f"{i}.wav", tone)
        answers = ["The tap drips. Tighten it."] if i < 3 else ["A bear. Climb a tree."]
        rows.append(
            {"id": str(i), "path": f"{i}.wav", "decision": "RESPOND", "standard_answers": answers}
        )
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = segments.run(Parrot(), manifest)
    for name in ("online", "offline"):
        assert [row["segments"] for row in report[name]] == [1, 2, 3, 4, 5]
        assert all(row["share"] == 0.5 and row["kept"]["value"] == 1 for row in report[name])
    segments.show(report)
    assert "5 segments: 0.500" in capsys.readouterr().out
    waveform, spans = segments.joined(read_manifest(manifest)[:2])
    for start_s, end_s in spans:
        part = waveform[int(start_s * SAMPLE_RATE) + 400 : int(end_s * SAMPLE_RATE) - 400]
        assert np.abs(part[:800]).max() > 0.05 and len(part) == pytest.approx(15_200, abs=400)
    assert not waveform[: int(spans[0][0] * SAMPLE_RATE) - 1].any()


# --- the verbs -------------------------------------------------------------------------------------
@pytest.fixture
def predictions(tmp_path):
    cases = read_manifest(proactive.MINI_BENCH)
    silent = {case.id: Answer("IGNORE") for case in cases}
    talks = silent | {
        c.id: Answer("RESPOND", c.standard_answers[0]) for c in cases if c.decision == "RESPOND"
    }
    for name, answers in (("silent", silent), ("talks", talks)):
        write_predictions(tmp_path / f"{name}.jsonl", answers)
    return tmp_path


def test_score_prints_one_json_object(predictions, capsys):
    assert (
        main(["bench", "score", "--pred", str(predictions / "talks.jsonl"), "--compat", "--json"])
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert (
        report["accuracy"] == 1.0 == report["published"]["overall"]["accuracy"]
        and report["problems"] == []
    )
    assert report["usefulness"]["useful"]["share"] == 1.0 and report["streaming"] is None
    assert set(report["baselines"]) == {"always ignore", "always respond", "random", "level gate"}


def test_score_tells_problems_and_the_difference(predictions, capsys):
    path = predictions / "talks.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[12:]) + '\n{"id": "what"}\n')
    assert main(["bench", "score", "--pred", str(path), "--out", str(predictions / "s.json")]) == 0
    out, err = capsys.readouterr()
    assert (
        "12 missing and 0 unreadable" in out and "line 125: id what is not in the manifest" in err
    )
    assert "more problems" in err and (predictions / "s.confusion.png").stat().st_size > 1_000
    assert "Single tier" in (predictions / "s.md").read_text()
    path.write_text("{\n")
    assert main(["bench", "score", "--pred", str(path)]) == 2
    assert "line 1: not JSON" in capsys.readouterr().err


def test_compare_writes_a_table_and_a_figure(predictions, capsys):
    files = [str(predictions / f"{name}.jsonl") for name in ("silent", "talks")]
    assert main(["bench", "compare", *files, "--out", str(predictions / "c.json")]) == 0
    assert "| all | 78 | 0 | 58 | 0 |" in capsys.readouterr().out
    assert json.loads((predictions / "c.json").read_text())["names"] == [
        "silent.jsonl",
        "talks.jsonl",
    ]
    assert (predictions / "c.domains.png").stat().st_size > 1_000


def test_a_tier_can_be_scored_as_any_benchmark(tmp_path, capsys):
    assert main(["bench", "tier", "--out", str(tmp_path), "--streams", "4"]) == 0
    manifest = tmp_path / "manifest.jsonl"
    assert str(manifest) in capsys.readouterr().out
    answers = {case.id: Answer("IGNORE", "", 0.1, (), 12.0) for case in read_manifest(manifest)}
    write_predictions(tmp_path / "p.jsonl", answers)
    assert (
        main(
            [
                "bench",
                "score",
                "--manifest",
                str(manifest),
                "--pred",
                str(tmp_path / "p.jsonl"),
                "--json",
            ]
        )
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert report["tier"] == "multiple" and report["balanced_accuracy"] == 0.5
    assert report["streaming"]["false_alarms_per_hour"]["value"] == 0


def test_the_published_counts_on_the_command_line(golden, shared_data, capsys):
    arguments = ["bench", "score", "--manifest", str(shared_data / "psb" / "proactive_reply_benchmark.jsonl"),
                 "--pred", str(golden / "psb" / "pred_A.jsonl"), "--compat", "--json"]  # fmt: skip
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    recorded = json.loads((golden / "psb" / "stats_A.json").read_text())["before_semantic"]
    assert report["published"] == recorded
    silent = report["baselines"]["always ignore"]
    assert round(silent["accuracy"], 3) == 0.585 and silent["balanced_accuracy"] == 0.5
    assert "level gate" not in report["baselines"]  # its clips are not at hand
