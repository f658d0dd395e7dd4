"""The seven other benchmarks: files in their usual shapes, scores computed by hand, stop and go on."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

pytest.importorskip("whisper_normalizer", reason="the benchmarks need pip install 'aikit[tasks]'")

from aikit.audio import save_audio
from aikit.bench import scorers, tasks
from aikit.bench.tasks import TASKS, Item, heard_and_asked, read_items, run, run_task
from aikit.cli import main
from aikit.config import preset
from aikit.model.modeling import AudioInteractionModel
from aikit.model.shards import save_model
from aikit.synth.chat import Endpoint
from aikit.tokens import Tokenizer

TONE = 0.1 * np.sin(0.3 * np.arange(8000)).astype(np.float32)

ROWS = {  # the columns that each benchmark has, where it is published
    "librispeech-clean": [
        {"id": "1-2-0000", "audio": "a.flac", "text": "MISTER BROWN'S COLOUR"},
        {"id": "1-2-0001", "audio": "a.flac", "text": "TWENTY FIVE DOGS BARKED"},
    ],
    "covost2-en-zh": [
        {"path": "a.flac", "sentence": "the cat sat on the mat", "translation": "猫坐在垫子上面。"},
    ],
    "covost2-zh-en": [
        {"path": "a.flac", "sentence": "猫坐在垫子上。", "translation": "the cat sat on the mat today"},
    ],
    "mmau": [
        {"id": "q1", "audio_id": "./a.flac", "question": "What barks?", "choices": ["a dog", "a cat"],
         "answer": "a dog", "task": "sound"},
        {"id": "q2", "audio_id": "./a.flac", "question": "What rings?", "choices": ["a bell", "a horn"],
         "answer": "a bell", "task": "sound"},
    ],
    "llama-questions": [{"question": "Capital of France?", "answer": "Paris", "audio": "a.flac"}],
    "web-questions": [{"question": "Who painted it?", "answers": ["Monet", "Claude Monet"], "audio": "a.flac"}],
    "alpacaeval": [{"prompt": "Name a colour.", "audio": "a.flac"},
                   {"prompt": "Say hello.", "audio": "a.flac"}],
    "sd-qa": [{"prompt": "How many legs has a dog?", "reference": "four", "audio": "a.flac"},
              {"prompt": "How many has a bird?", "reference": "two", "audio": "a.flac"}],
}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    save_audio(tmp_path / "data" / "a.flac", TONE)
    for name, rows in ROWS.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / "data" / f"{name}.jsonl").write_text(lines, "utf-8")
    return tmp_path / "data"


def answered(monkeypatch, *replies):
    """A model that says what it is told to; returns what it was asked."""
    said, asked = iter(replies), []

    def ask(assistant, waveform, question, online=False):
        asked.append((None if waveform is None else len(waveform), question))
        return next(said)

    monkeypatch.setattr(tasks, "ask", ask)
    return asked


def scored(monkeypatch, data, out, name, *replies, judge=None):
    answered(monkeypatch, *replies)
    return run_task(None, name, read_items(name, data), out, judge, progress=False)


# --- by hand -----------------------------------------------------------------------------------------
def test_word_error_rate(monkeypatch, data, tmp_path):
    """mister brown is color / 25 dogs barked: 7 words; "as" for "is", and one word too many."""
    got = scored(monkeypatch, data, tmp_path, "librispeech-clean",
                 "Mr. Brown as color!", "um, 25 big dogs barked")  # fmt: skip
    assert got["score"] == pytest.approx(100 * 2 / 7) and got["n"] == 2
    assert "7 words" in got["how"] and got["interval"][0] == 25.0


def test_bleu_of_english(monkeypatch, data, tmp_path):
    """6 of 7 words right, then 5/6, 4/5, 3/4; one word is missing at the end: no, as long as the other."""
    got = scored(monkeypatch, data, tmp_path, "covost2-zh-en", "the cat sat on the mat now")
    precisions = np.array([6 / 7, 5 / 6, 4 / 5, 3 / 4])
    assert got["score"] == pytest.approx(100 * np.exp(np.log(precisions).mean()), abs=1e-6)
    assert "tok:13a" in got["how"] and "version:" in got["how"]


def test_bleu_of_chinese_counts_characters(monkeypatch, data, tmp_path):
    """8 characters; the reply has 7 of them in a row and ends there: a brevity penalty alone."""
    got = scored(monkeypatch, data, tmp_path, "covost2-en-zh", "猫坐在垫子上面")
    assert (
        got["score"] == pytest.approx(100 * np.exp(1 - 8 / 7), abs=1e-6) and "tok:zh" in got["how"]
    )


def test_multiple_choice(monkeypatch, data, tmp_path):
    got = scored(monkeypatch, data, tmp_path, "mmau-text", "It is a dog.", "a bell or a horn")
    assert got["score"] == 50.0
    assert not scorers.chosen("a dog", "", ["a dog", "a cat"])
    assert not scorers.chosen(
        "a dog", "dog", ["a dog", "a cat"]
    )  # as the published rule: every word


def test_letters_of_choices_are_no_words(tmp_path):
    """The columns of MMAU on the hub: "(A) ", the clip under `context`."""
    row = {
        "instruction": "What?",
        "choices": ["(A) dog", "(B) cat"],
        "answer": "(A) dog",
        "context": "x.wav",
    }
    (tmp_path / "mmau.json").write_text(json.dumps([row]))
    (item,) = read_items("mmau-text", tmp_path)
    assert (item.choices, item.references, item.question) == (("dog", "cat"), ("dog",), "What?")
    assert scorers.choices([item], ["A dog."])["score"] == 100


def test_closed_questions(monkeypatch, data, tmp_path):
    assert (
        scored(monkeypatch, data, tmp_path, "llama-questions", "It's Paris, of course.")["score"]
        == 100
    )
    assert (
        scored(monkeypatch, data, tmp_path, "web-questions", "That was claude monet")["score"]
        == 100
    )
    item = Item("x", None, "?", ("four",))
    assert scorers.contained([item, item], ["fourteen", ""])["score"] == 0


def test_every_row_of_the_papers_table_is_there():
    papers = {"librispeech-clean": 3.17, "librispeech-other": 6.04, "covost2-en-zh": 55.22,
              "covost2-zh-en": 35.21, "mmau-text": 55.68, "mmau-audio": 58.15, "llama-questions": 67.31,
              "web-questions": 54.34, "alpacaeval": 4.28, "sd-qa": 52.14}  # fmt: skip
    assert {name: task.paper for name, task in TASKS.items()} == papers


# --- what the model hears and is asked ---------------------------------------------------------------
def test_text_and_audio_instruction(data):
    text, audio = (next(iter(read_items(f"mmau-{kind}", data))) for kind in ("text", "audio"))
    waveform, question = heard_and_asked(TASKS["mmau-text"], text)
    assert len(waveform) == 8000 and question == "What barks? Choose one: a dog; a cat."
    waveform, question = heard_and_asked(
        TASKS["mmau-audio"], audio
    )  # the question follows the clip
    assert question is None and len(waveform) > 16_000 + 8000 and not waveform[8000:15_000].any()
    waveform, question = heard_and_asked(
        TASKS["librispeech-clean"], next(iter(read_items("librispeech-clean", data)))
    )
    assert len(waveform) == 8000 and question == tasks.TRANSCRIBE
    no_audio = Item("x", None, "What is one and one?")
    assert len(heard_and_asked(TASKS["llama-questions"], no_audio)[0]) > 8000  # spoken


# --- other shapes of files ---------------------------------------------------------------------------
def test_librispeechs_own_tree(tmp_path):
    folder = tmp_path / "librispeech-other" / "19" / "198"
    save_audio(folder / "19-198-0000.flac", TONE)
    (folder / "19-198.trans.txt").write_text("19-198-0000 TWO WORDS\n")
    (item,) = read_items("librispeech-other", tmp_path)
    assert (item.id, item.references) == ("19-198-0000", ("TWO WORDS",)) and item.audio.exists()


def test_tables_and_lists(data, tmp_path):
    (tmp_path / "covost2-en-zh.tsv").write_text(
        'path\tsentence\ttranslation\na.flac\t"hi\t"你好\n', "utf-8"
    )
    (item,) = read_items("covost2-en-zh", tmp_path)
    assert item.references == ('"你好',) and item.audio == tmp_path / "a.flac"
    (tmp_path / "web-questions.csv").write_text('question,answers\nWho?,"[""A"", ""B""]"\n')
    assert next(iter(read_items("web-questions", tmp_path))).references == ("A", "B")
    (tmp_path / "mmau.json").write_text(json.dumps(ROWS["mmau"]))
    assert [i.id for i in read_items("mmau-audio", tmp_path)] == ["q1", "q2"]


def test_what_datasets_saved(tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    save_audio(tmp_path / "a.flac", TONE)
    sound = {"bytes": (tmp_path / "a.flac").read_bytes(), "path": None}
    rows = datasets.Dataset.from_dict({"prompt": ["Hi?"], "reference": ["hello"], "audio": [sound]})
    rows.cast_column("audio", datasets.Audio(decode=False)).save_to_disk(tmp_path / "sd-qa")
    (item,) = read_items("sd-qa", tmp_path)
    assert item.references == ("hello",) and isinstance(item.audio, io.BytesIO)
    assert len(heard_and_asked(TASKS["sd-qa"], item)[0]) == 8000


@pytest.mark.parametrize(
    "rows, said",
    [([{"text": "x"}], "row 0: no audio or question"), ([{"audio": "a"}], "row 0: no text in"),
     ([{"id": 1, "audio": "a", "text": "x"}] * 2, "two items have the same id")],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_named(tmp_path, rows, said):
    (tmp_path / "librispeech-clean.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=said):
        run_task(None, "librispeech-clean", read_items("librispeech-clean", tmp_path), tmp_path)


# --- stopped and resumed -----------------------------------------------------------------------------
@pytest.mark.parametrize("torn", ["", '{"id": "1-2-0001", "val'])
def test_interrupted_and_resumed_is_the_same(monkeypatch, data, tmp_path, torn):
    replies = ("Mr. Brown as color!", "um, 25 big dogs barked")
    whole = scored(monkeypatch, data, tmp_path / "whole", "librispeech-clean", *replies)

    answered(monkeypatch, replies[0])  # then it stops
    with pytest.raises(StopIteration):
        run_task(None, "librispeech-clean", read_items("librispeech-clean", data), tmp_path / "two")
    with open(tmp_path / "two" / "librispeech-clean.jsonl", "a") as file:
        file.write(torn)
    asked = answered(monkeypatch, replies[1])
    again = run_task(
        None, "librispeech-clean", read_items("librispeech-clean", data), tmp_path / "two"
    )
    assert again == whole and len(asked) == 1
    one, two = ((tmp_path / n / "librispeech-clean.jsonl").read_bytes() for n in ("whole", "two"))
    assert one == two


def test_another_models_answers_are_not_mixed_in(monkeypatch, data, tmp_path):
    answered(monkeypatch, "Paris", "Paris")
    run(None, ["llama-questions"], data, tmp_path / "out", "one")
    with pytest.raises(ValueError, match="holds answers of .*one.* not of .*two"):
        run(None, ["llama-questions"], data, tmp_path / "out", "two")


# --- a judge behind an endpoint ----------------------------------------------------------------------
@pytest.fixture
def endpoint():
    """An OpenAI-compatible server that judges by a script; ``.asked`` has what it was sent."""
    asked, script = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            answer = {"choices": [{"message": {"content": script.pop(0)}}]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    judge = Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "a-judge")
    yield judge, asked, script
    server.shutdown()
    server.server_close()


def test_a_judge_scores_and_its_verdicts_are_kept(monkeypatch, data, tmp_path, endpoint):
    judge, asked, script = endpoint
    script += ['{"score": 5}', "I think", '{"score": 9}', '{"score": 2}']
    got = scored(monkeypatch, data, tmp_path, "alpacaeval", "Blue.", "No.", judge=judge)
    assert got["score"] == 3.5 and got["n"] == 2 and "a-judge" in got["how"]
    assert len(asked) == 4 and "Name a colour." in asked[0]["messages"][0]["content"]
    again = run_task(
        None, "alpacaeval", read_items("alpacaeval", data), tmp_path, judge, progress=False
    )
    assert again == got and len(asked) == 4  # neither the model nor the judge was asked again


def test_a_judge_says_correct_or_not(monkeypatch, data, tmp_path, endpoint):
    judge, asked, script = endpoint
    script += ['{"score": 1}', '{"score": 0}']
    got = scored(monkeypatch, data, tmp_path, "sd-qa", "It has four.", "three", judge=judge)
    assert got["score"] == 50.0 and "Reference: four" in asked[0]["messages"][0]["content"]


def test_without_a_usable_judge_there_is_no_score(monkeypatch, data, tmp_path, endpoint):
    judge, _, script = endpoint
    got = scored(monkeypatch, data, tmp_path, "sd-qa", "four", "two")
    assert got["score"] is None and "--judge" in got["how"]
    script += ["no"] * 3
    with pytest.raises(ValueError, match="gave no score from 0 to 1 to 0 in 3 tries"):
        run_task(None, "sd-qa", read_items("sd-qa", data), tmp_path, judge, progress=False)


# --- the command line, with a model ------------------------------------------------------------------
@pytest.mark.parametrize("online", [[], ["--online"]])
def test_the_command_runs_with_any_model(data, tmp_path, capsys, online):
    save_model(AudioInteractionModel.from_preset(preset("nano")), tmp_path / "model")
    Tokenizer.train(["hello there"]).save(tmp_path / "model" / "tokenizer.json")
    names = [name for name in TASKS if name != "librispeech-other"]
    command = ["bench", "tasks", "--data", str(data), "--out", str(tmp_path / "out"), "--limit", "1",
               "--model", str(tmp_path / "model"), *online, "--only"]  # fmt: skip
    assert main([*command, *names]) == 0
    scores = json.loads((tmp_path / "out" / "scores.json").read_text("utf-8"))
    assert list(scores) == names and all(s["n"] == 1 for s in scores.values())
    assert "55.22" in capsys.readouterr().out
    assert main([*command, "librispeech-other"]) == 2
    assert "nothing of librispeech-other in" in capsys.readouterr().err
    assert main([*command, "chess"]) == 2
    assert "no task 'chess'; choose from librispeech-clean" in capsys.readouterr().err
