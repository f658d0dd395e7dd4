"""The shipped checkpoint does what the README says, on sounds it has never met."""

import json
import time

import pytest

import aikit
from aikit.bench.proactive import ask

CHUNK_S = 0.4


@pytest.fixture(scope="module")
def assistant(root):
    if not (root / "data_samples" / "checkpoint" / "model.safetensors").exists():
        pytest.fail("data_samples/checkpoint is missing: it belongs to the repository")
    return aikit.load()


def replies(assistant, source) -> list[tuple[float, str]]:
    """(time, text) of every reply."""
    return [(event.time_s, event.text) for event in assistant.listen(source) if event.kind == "end"]


def test_it_is_small_and_loads_fast(root, assistant):
    size = (root / "data_samples" / "checkpoint" / "model.safetensors").stat().st_size
    assert size <= 25 * 2**20
    assert assistant.model.n_parameters() <= 10_000_000
    began = time.perf_counter()
    aikit.load()
    assert time.perf_counter() - began < 5  # 0.1 s on a free machine


def test_the_card_names_its_recipe_and_its_data(root):
    card = (root / "data_samples" / "checkpoint" / "README.md").read_text("utf-8")
    for wanted in ("seed", "ESC-10", "Free Spoken Digit", "balanced", "aikit train", "Known failures"):
        assert wanted in card, wanted


def test_the_kitchen_is_quiet_until_the_smoke_alarm(root, assistant):
    scene = json.loads((root / "data_samples" / "scenes" / "kitchen.json").read_text("utf-8"))
    alarm = next(e for e in scene["events"] if e["label"] == "smoke_alarm")
    said = replies(assistant, root / "data_samples" / "scenes" / "kitchen.flac")
    assert said, "nothing was said at all"
    assert said[0][0] > alarm["start_s"], f"spoke before the alarm: {said}"
    assert said[0][0] <= alarm["end_s"] + 3 * CHUNK_S, f"spoke too late: {said}"
    assert "smoke" in said[0][1].lower()


def test_it_answers_speech_at_the_right_moments(root, assistant):
    """When; the card says how many of the words are right."""
    scene = json.loads((root / "data_samples" / "scenes" / "translate.json").read_text("utf-8"))
    due = [reply["time_s"] for reply in scene["timeline"]]
    said = [time_s for time_s, _ in replies(assistant, root / "data_samples" / "scenes" / "translate.flac")]
    on_time = [time_s for time_s in due if any(abs(time_s - t) <= CHUNK_S for t in said)]
    assert len(on_time) >= 4 and len(said) <= len(due) + 2, f"due {due}, said {said}"


def test_real_recordings_a_baby_cry_and_rain(shared_data, assistant):
    """ESC-10 fold 4, which training never saw."""
    decisions = {}
    for folder in ("004 - Baby cry", "002 - Rain"):
        clips = sorted((shared_data / "esc10" / folder).glob("4-*.ogg"))
        decisions[folder] = [ask(assistant, clip).decision for clip in clips]
    assert decisions["004 - Baby cry"].count("RESPOND") >= 6, decisions
    assert decisions["002 - Rain"].count("IGNORE") >= 6, decisions
