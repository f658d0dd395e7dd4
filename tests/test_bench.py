"""Scores worked out by hand, alignments that a greedy search gets wrong, manifests broken line by line."""

import json
from dataclasses import replace
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest

from aikit.audio import save_audio
from aikit.bench import manifest, proactive, stats, streams
from aikit.bench.manifest import Answer, read_manifest, read_predictions
from aikit.stream.session import Event
from aikit.synth.compose import SoundEvent, Stream
from aikit.synth.ontology import ontology
from aikit.tokens import Reply


class Scripted:
    """An assistant that gives a reply in set chunks: {source or None: {chunk: text}}."""

    config = SimpleNamespace(threshold=0.5)

    def __init__(self, script):
        self.script = script

    def listen(self, source, rate=None, instruction=None, threshold=None):
        said = self.script.get(getattr(source, "stem", None), {})
        for chunk in range(12):
            time_s, p = round(0.4 * (chunk + 1), 1), 0.9 if chunk in said else 0.1
            yield Event(time_s, "respond" if chunk in said else "silent", "", p)
            if chunk in said:
                yield Event(time_s, "text", said[chunk], p)
                yield Event(time_s, "end", said[chunk], p)


# --- scores ----------------------------------------------------------------------------------------
def test_scores_by_hand():
    truth = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    decided = [1, 1, 1, 0, 1, 0, 0, 0, 0, 0]  # 3 hits, 1 miss, 1 false alarm, 5 silences
    assert stats.confusion(truth, decided).sum(0).tolist() == [3, 1, 1, 5]
    scores = stats.decision_scores(truth, decided)
    assert (scores["n"], scores["accuracy"], scores["majority_accuracy"]) == (10, 0.8, 0.6)
    assert scores["hit_rate"] == 0.75 and scores["false_alarm_rate"] == pytest.approx(1 / 6)
    assert scores["balanced_accuracy"] == pytest.approx((0.75 + 5 / 6) / 2)
    assert scores["mcc"] == pytest.approx((3 * 5 - 1 * 1) / (4 * 6 * 4 * 6) ** 0.5)
    z = NormalDist().inv_cdf  # two clips more: 0.4 of one kind, 0.6 of the other, of each one answered
    assert scores["d_prime"] == pytest.approx(z(3.4 / 4.8) - z(1.6 / 7.2))
    for name in stats.SCORES:
        low, high = scores["intervals"][name]
        assert low <= scores[name] <= high
    assert scores == stats.decision_scores(truth, decided) != stats.decision_scores(truth, decided, seed=1)


def test_constant_silence_on_the_published_counts():
    scores = stats.decision_scores([1] * 267 + [0] * 377, [0] * 644)
    assert round(scores["accuracy"], 3) == 0.585 and scores["balanced_accuracy"] == 0.5
    assert scores["mcc"] == 0.0 == scores["d_prime"] and scores["intervals"]["balanced_accuracy"] == [0.5, 0.5]
    low, high = scores["intervals"]["accuracy"]  # against the normal approximation
    assert low == pytest.approx(0.585 - 0.038, abs=0.005) and high == pytest.approx(0.585 + 0.038, abs=0.005)


def test_one_class_and_no_clip():
    scores = stats.decision_scores([1, 1], [1, 0])
    assert scores["hit_rate"] == 0.5 and scores["false_alarm_rate"] is scores["balanced_accuracy"] is None
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    for truth, decided in (([], []), ([1, 0], [1])):
        with pytest.raises(ValueError, match="expected two of"):
            stats.decision_scores(truth, decided)
    assert stats.share([]) == {"n": 0, "share": None, "interval": None}


def test_groups_are_resampled_whole():
    truth, decided, groups = np.ones(200), np.arange(200) < 100, np.arange(200) // 100
    alone = stats.decision_scores(truth, decided)["intervals"]["accuracy"]
    whole = stats.decision_scores(truth, decided, groups)["intervals"]["accuracy"]
    assert whole == [0.0, 1.0] and alone[1] - alone[0] < 0.2  # two streams say little


def test_threshold_curve_and_choice():
    points = stats.threshold_curve([1, 1, 0, 0], [0.9, 0.4, 0.5, 0.1], [0.05, 0.3, 0.45, 0.8, 0.95])
    assert [p["hit_rate"] for p in points] == [1, 1, 0.5, 0.5, 0]
    assert [p["false_alarm_rate"] for p in points] == [1, 0.5, 0.5, 0, 0]
    assert streams.best_threshold(points)["threshold"] == 0.3
    assert streams.best_threshold(points, most_false_alarms=0.1)["threshold"] == 0.8
    with pytest.raises(ValueError, match="false alarms"):
        streams.best_threshold(points[:1], 0.1)


def test_ratio_and_mcnemar_by_hand():
    alarms = stats.ratio([2, 0, 0, 1], [0.5, 0.5, 1, 1])
    assert alarms["value"] == 1.0 and alarms["interval"][0] == 0 and alarms["interval"][1] > 1.5
    assert stats.ratio([0, 0], [0, 0])["value"] is None
    a, b = [1, 1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1, 0, 1]  # five to nil
    found = stats.mcnemar(a, b)
    assert [found[k] for k in ("both", "only_a", "only_b", "neither")] == [2, 5, 0, 1]
    assert found["p_value"] == pytest.approx(2 / 2**5)
    assert stats.mcnemar(a, a)["p_value"] == 1.0


def test_word_errors_by_hand():
    errors = stats.word_errors(["1 2 3", "Turn left!"], ["", "turn the left"])  # 3 deleted, 1 inserted
    assert errors["n_words"] == 5 and errors["wer"] == pytest.approx(4 / 5)
    assert stats.word_errors(["a"], ["A."])["wer"] == 0 and stats.word_errors([], [])["wer"] is None
    assert stats.normalised("  ¿Cómo estás? ") == "cómo estás"


# --- manifests and predictions ---------------------------------------------------------------------
@pytest.fixture
def bench(tmp_path):
    """Three clips of the published layout, and one outside it."""
    rows = [("a", "Music/Artistic/RESPOND/a.wav", "RESPOND"), ("b", "Music/Artistic/IGNORE/b.wav", "IGNORE"),
            ("c", "Traffic/Vehicle/IGNORE/c.wav", "IGNORE"), ("d", "Rain/d.wav", "ignore")]  # fmt: skip
    lines = []
    for id_, path, decision in rows:
        save_audio(tmp_path / path, 0.1 * np.sin(np.arange(16_000) / 5).astype(np.float32))
        lines.append(json.dumps({"id": id_, "path": "./" + path, "decision": decision}))
    (tmp_path / "manifest.jsonl").write_text("\n".join([*lines, ""]))
    return tmp_path / "manifest.jsonl"


def test_manifest_domains_from_the_path(bench):
    cases = read_manifest(bench)
    assert [(c.domain, c.sub_domain) for c in cases[:3]] == [("Music", "Artistic")] * 2 + [("Traffic", "Vehicle")]
    assert (cases[3].domain, cases[3].sub_domain, cases[3].decision) == ("no domain", "Rain", "IGNORE")
    assert all(case.audio.is_file() for case in cases)


@pytest.mark.parametrize("line, reason", [
    ('{"id": "x", "path"', "not JSON"),
    ("[1]", "not an object"),
    ('"IGNORE"', "not an object"),
    ('{"id": "x", "decision": "IGNORE"}', "path missing"),
    ('{"path": "Rain/d.wav"}', "id and decision missing"),
    ('{"id": "x", "path": "Rain/d.wav", "decision": "MAYBE"}', "'MAYBE', expected RESPOND or IGNORE"),
    ('{"id": "a", "path": "Rain/d.wav", "decision": "IGNORE"}', "id a was there before"),
    ('{"id": "x", "path": "gone.wav", "decision": "IGNORE"}', "no audio at"),
    ("\x80\x81", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ('{"id": "x", "path": 7, "decision": "IGNORE"}', "path 7, expected a text"),
    ('{"id": "x", "path": "Rain/d.wav", "decision": "RESPOND", "standard_answers": "Run."}', "a list of texts"),
    ('{"id": "x", "path": "Rain/d.wav", "decision": "IGNORE", "events": [{"id": "a"}]}', "events that are not"),
    (json.dumps({"id": "x", "path": "Rain/d.wav", "decision": "IGNORE", "events": [
        {"id": "a", "description": "", "decision": "IGNORE", "start_s": 2, "end_s": 1}]}), "events that are not"),
])  # fmt: skip
def test_manifest_errors_have_line_and_reason(bench, line, reason):
    bench.write_text(bench.read_text() + "\n" + line + "\n", "latin-1")
    with pytest.raises(ValueError, match=f"line 6: .*{reason}"):
        read_manifest(bench)


def test_manifest_all_errors_are_counted(bench):
    bench.write_text("nonsense\n" * 9)
    with pytest.raises(ValueError, match="line 1: .*line 5: .*and 4 more"):
        read_manifest(bench)
    bench.write_text("\n")
    with pytest.raises(ValueError, match="no rows"):
        read_manifest(bench)


def test_predictions_nothing_is_dropped_in_silence(bench):
    cases, path = read_manifest(bench), bench.with_name("p.jsonl")
    raw = [("a", "<decision> (Respond) </DECISION><Reply>Mind\nthe step.</Reply>"), ("b", "RESPOND, I think"),
           ("a", "<Decision>IGNORE</Decision>"), ("z", "<Decision>IGNORE</Decision>"),
           ("c", "<Decision>RESPOND</Decision>"), ("b", "<Decision>MAYBE</Decision>")]  # fmt: skip
    path.write_text("".join(json.dumps({"id": i, "_raw_reply": t}) + "\n" for i, t in raw))
    answers, problems = read_predictions(path, cases)
    assert answers["a"].decision == "IGNORE" and answers["b"].decision is None
    assert (answers["c"].decision, answers["c"].given) == ("RESPOND", None)
    for number, word in ((2, "no decision"), (3, "was there before"), (4, "not in the manifest"),
                         (5, "without a reply"), (6, "no decision in '<Decision>MAYBE")):  # fmt: skip
        assert any(p.startswith(f"line {number}: ") and word in p for p in problems)
    assert sum("has no row" in p for p in problems) == 1
    path.write_text(json.dumps({"id": "a", "reply": "<Decision>IGNORE</Decision>", "p_max": "high"}))
    answers, problems = read_predictions(path, cases)
    assert answers["a"].p_max is None and "line 1: p_max" in problems[0]
    path.write_text('{"reply": "x"}\n{')
    with pytest.raises(ValueError, match="line 1: id missing; line 2: not JSON"):
        read_predictions(path, cases)


def test_answers_in_a_file_of_their_own(bench):
    path = bench.with_name("answers.jsonl")
    path.write_text('{"id": "a", "standard_answers": ["Mind the step."]}\n')
    assert read_manifest(bench, answers=path)[0].standard_answers == ("Mind the step.",)
    path.write_text('{"id": "q", "standard_answers": ["Mind the step."]}\n')
    with pytest.raises(ValueError, match="id q is not in"):
        read_manifest(bench, answers=path)
    path.write_text('\n{"id": "a", "standard_answers": 3}\n')
    with pytest.raises(ValueError, match="line 2: standard_answers 3"):
        read_manifest(bench, answers=path)


def test_answers_survive_their_file(bench):
    cases, path = read_manifest(bench), bench.with_name("p.jsonl")
    answers = {"a": Answer("RESPOND", "Give it air.", 0.75, (1.2, 2.4), 4.8), "b": Answer("IGNORE", "", 0.25, (), 2.0)}
    manifest.write_predictions(path, answers)
    read, _ = read_predictions(path, cases)
    assert read["a"] == answers["a"] and (read["b"].decision, read["b"].p_max) == ("IGNORE", 0.25)
    assert read["b"].trigger_s == () and read["b"].heard_s == 2.0
    assert Answer.parse("Error: <Decision>IGNORE</Decision>").decision is None


def test_honest_and_published_counts_differ(bench):
    cases = read_manifest(bench)
    answers = {"a": Answer("RESPOND", "Go."), "b": Answer(None), "c": Answer("IGNORE")}  # d is missing
    honest, published = (proactive.score(cases, answers, compat) for compat in (False, True))
    assert honest["n"] == 4 and honest["accuracy"] == 0.5 and honest["n_unanswered"] == 2
    assert honest["hit_rate"] == 1.0 and honest["false_alarm_rate"] == pytest.approx(2 / 3)
    assert honest["domains"]["Music"]["sub_domains"]["Artistic"]["accuracy"] == 0.5
    assert published["overall"] == {"total_samples": 2, "correct_samples": 2, "accuracy": 1.0}
    text = proactive.difference(cases, answers)["text"]
    assert "2/2 = 1.000" in text and "2/4 = 0.500" in text and "1 missing and 1 unreadable" in text
    wordless = answers | {"a": Answer("RESPOND", " ")}  # the reply must come with the decision
    assert proactive.score(cases, wordless)["accuracy"] == 0.25
    assert proactive.score(cases, wordless, compat=True) == published
    constant = proactive.baselines(cases)
    assert constant["always ignore"]["accuracy"] == 0.75 == constant["always ignore"]["majority_accuracy"]
    assert constant["always respond"]["accuracy"] == 0.25


def test_compat_equals_the_published_scorer(golden, shared_data):
    cases = read_manifest(shared_data / "psb" / "proactive_reply_benchmark.jsonl", need_audio=False)
    answers, problems = read_predictions(golden / "psb" / "pred_A.jsonl", cases)
    recorded = json.loads((golden / "psb" / "stats_A.json").read_text())
    assert proactive.score(cases, answers, compat=True) == recorded["before_semantic"]
    honest = proactive.score(cases, answers)
    n_broken = sum(answer.decision is None for answer in answers.values())
    # 25 missing, 74 unreadable, and 2 that respond without a word
    assert (honest["n"], honest["n_unanswered"]) == (644, 644 - 545 + 2) and n_broken == 99 - 25
    assert honest["accuracy"] == pytest.approx((373 - 2) / 644) and len(honest["domains"]) == 6
    assert sum(len(d["sub_domains"]) for d in honest["domains"].values()) == 17
    assert sum("was there before" in p for p in problems) == 10


def test_run_writes_scores_and_predictions(bench, tmp_path, capsys):
    out = tmp_path / "deep" / "scores.json"
    ai = Scripted({"a": {3: "Help comes.", 5: "Really."}, "c": {1: "What?"}})
    report = proactive.run(ai, bench, out=out, tier="single")
    written = json.loads(out.read_text())
    assert written == json.loads(json.dumps(report, allow_nan=False))
    expected = {"n", "accuracy", "balanced_accuracy", "majority_accuracy", "hit_rate", "false_alarm_rate", "d_prime",
                "intervals", "domains", "baselines", "threshold", "threshold_curve", "streaming"}  # fmt: skip
    assert expected <= set(written)
    assert (report["n"], report["accuracy"], report["hit_rate"], report["false_alarm_rate"]) == (4, 0.75, 1, 1 / 3)
    assert list(report["baselines"]) == ["always ignore", "always respond", "random", "level gate"]
    rows = [json.loads(line) for line in out.with_name("scores.predictions.jsonl").read_text().splitlines()]
    assert rows[0] == {"id": "a", "p_max": 0.9, "trigger_s": [1.6, 2.4], "heard_s": 4.8,
                       "_raw_reply": "<Decision>RESPOND</Decision>\n<Reply>Help comes. Really.</Reply>"}  # fmt: skip
    answers, problems = read_predictions(out.with_name("scores.predictions.jsonl"), read_manifest(bench))
    assert not problems and proactive.score(read_manifest(bench), answers)["accuracy"] == 0.75
    table = out.with_suffix(".md").read_text()
    assert "| always silent |" in table and "0.750" in table and "useful replies: not measured" in table
    assert {p.name for p in out.parent.glob("*.png")} == {f"scores.{n}.png" for n in ("domains", "confusion", "threshold")}
    printed = " ".join(capsys.readouterr().out.split())
    assert all(word in printed for word in ("accuracy", "balanced accuracy", "level", "Artistic", "delay"))
    before = set(tmp_path.rglob("*"))
    proactive.run(Scripted({}), bench, tier="single", quiet=True)
    assert set(tmp_path.rglob("*")) == before and not capsys.readouterr().out
    with pytest.raises(ValueError, match="choose single"):
        proactive.run(ai, bench, tier="double")


# --- streams ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("due, given, pairs", [
    ([5], [5], [(0, 0)]),
    ([5], [4], [(0, 0)]),  # a chunk early
    ([5], [3], []),  # too early
    ([5], [7], [(0, 0)]),
    ([5], [8], []),
    ([5], [], []),
    ([5], [4, 5, 6], [(0, 1)]),  # said three times: the nearest counts
    # dense digits, each a chunk early: greedy by time gives 4 to 3's reply and loses one
    ([3, 4, 5, 6], [2, 3, 4, 5], [(0, 0), (1, 1), (2, 2), (3, 3)]),
    # nearest first takes 6 for 6 and leaves 4 (due) without a partner
    ([4, 6], [6, 7], [(0, 0), (1, 1)]),
    ([3, 5, 7], [3, 7], [(0, 0), (2, 1)]),  # the middle one is missing
    ([4, 4], [4, 5], [(0, 0), (1, 1)]),
])  # fmt: skip
def test_alignment(due, given, pairs):
    assert streams.align(due, given) == pairs


def event(label, start, end, reply=None, text=""):
    """An event from the start of chunk `start` to within chunk `end`."""
    return SoundEvent(label, 0.4 * start, 0.4 * end + 0.2, text=text, reply=reply)


def stream_of(*events):
    due = tuple(Reply(e.chunk(), e.reply) for e in events if e.reply)
    return Stream(np.zeros(12 * 6400, np.float32), due, events, "proactive response", "body in distress")


def test_judged_events():
    advice = ontology()["baby_cry"].replies
    stream = stream_of(event("dog_bark", 0, 1), event("baby_cry", 3, 4, advice[0]), event("rain", 7, 7))
    said = list(Scripted({None: {5: advice[1], 8: "Hm.", 9: "Hm.", 11: "Oh."}}).listen(None))
    rows, spare = streams.judge(stream, said, 3)
    assert [(r.label, r.due, r.replied, r.offset) for r in rows] == [
        ("dog_bark", False, False, None), ("baby_cry", True, True, 1), ("rain", False, True, None)]  # fmt: skip
    assert spare == 3 and rows[1].right  # other words, same hazard; the rain woke it twice, silence once
    # the bark's chunks end at 3, where the cry's begin: its reply is not held against the bark
    assert [r.p_max for r in rows] == [0.1, 0.9, 0.9]
    result = streams.evaluate(rows, spare, minutes=0.08)
    assert result["hit_rate"] == 1.0 and result["false_alarm_rate"] == 0.5 and result["late"] == 1
    assert result["unasked_replies_per_minute"] == pytest.approx(3 / 0.08)
    assert [b["balanced_accuracy"] for b in result["baselines"].values()] == [0.5, 0.5]
    assert result["sub_tasks"]["body in distress"]["reply_right"]["share"] == 1.0
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("rule, act, told", [("", "", False), ("wait", "", True), ("", "talk en", True)])
def test_a_stream_in_which_something_was_said_is_told(rule, act, told):
    """Written or spoken, and to all of its events; elsewhere the sounds alone decide."""
    stream = stream_of(event("rain", 0, 1), replace(event("speech", 3, 4), act=act))
    rows, _ = streams.judge(replace(stream, rule=rule), [])
    assert [row.told for row in rows] == [told, told]


def test_right_words():
    baby, smoke = ontology()["baby_cry"].replies[0], ontology()["smoke_alarm"].replies[0]
    assert streams.is_right(baby.lower().rstrip("."), baby) and not streams.is_right(smoke, baby)
    assert streams.is_right(" ".join(baby.split()[:-1]), baby)  # cut short, still about the baby
    assert not streams.is_right("", baby) and not streams.is_right("Okay.", baby)
    assert streams.is_right("buenos dias", "Buenos días") is False  # an accent is a letter


def test_transcripts_count_what_never_came():
    def row(wanted, said, ability="real-time ASR", spoken=False):
        return streams.Judged(0, ability, "", "speech", True, bool(said), 0.5, 0, wanted, said, spoken)

    rows = [row("1 2 3", ""), row("4 5", "4 6"), row("turn left", "turn right", spoken=True),
            row("Okay, I write down the digits.", ""), row("good", "bad", "streaming translation")]  # fmt: skip
    found = streams.transcripts(rows)
    assert found["digit_errors"]["wer"] == pytest.approx(4 / 5) and found["digit_errors"]["n_words"] == 5
    assert found["word_errors"]["wer"] == 0.5 and found["word_errors"]["n_words"] == 2


def test_run_on_held_out_streams(tmp_path, capsys):
    out = tmp_path / "streams.json"
    report = streams.run(Scripted({None: {2: "Okay."}}), n_streams=3, out=out)
    assert json.loads(out.read_text()) == report and len(report["sub_tasks"]) == 3
    assert report["minutes"] == pytest.approx(1.2) and 0 <= report["hit_rate"] <= 1
    assert "body in distress" in capsys.readouterr().out
    with pytest.raises(ValueError, match="at least 1"):
        streams.run(Scripted({}), n_streams=0)


def test_held_out_streams_never_meet_training():
    assert streams.SEED_OFFSET > 2**40  # see train/data.py
