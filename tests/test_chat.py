"""A language model as planner, refiner and verifier: a server that speaks the protocol, and often wrongly."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from aikit.synth import chat
from aikit.synth.abilities import make_stream
from aikit.synth.chat import ChatPlanner, planner_from, prompts
from aikit.synth.clips import Entry
from aikit.synth.grounding import Rules
from aikit.synth.llm import KEY, Endpoint, LocalModel
from aikit.synth.places import conflicts
from aikit.synth.scenario import PlannedEvent, described, refine
from aikit.synth.script import Sources
from aikit.synth.verifier import Facts

SECRET = "sk-never-to-be-seen"
FACTS = Facts(1.2, -6.0, 0.0, 40.0, True)
NEED = described(PlannedEvent("dog_bark", "foreground", 1.2, "garden"))
ENTRY = Entry(lambda: None, "dog_bark", "own", "a")
SCENE = {
    "places": ["kitchen", "garden"], "time": "evening", "people": "one person",
    "sentence": "Somebody cooks in the kitchen and then steps into the garden.",
    "events": [
        {"label": label, "role": role, "seconds": 2.0, "place": place}
        for label, role, place in (("frying", "foreground", "kitchen"), ("chopping", "foreground", "kitchen"),
                                   ("crickets", "foreground", "garden"), ("snoring", "ambient", "kitchen"),
                                   ("rain", "ambient", "garden"))
    ],
}  # fmt: skip


def answer_to(system: str, user: str) -> dict:
    """What a good model says."""
    if system == "plan":
        return SCENE
    if system == "refine":
        n = len(json.loads(user.split("The events: ")[1]))
        return {"events": [{"description": f"Event {i} is heard nearby.", "query": "a sound heard close by"}
                           for i in range(n)]}  # fmt: skip
    good = {"identity": True, "cleanliness": True, "duration_fit": True, "continuity": True}
    return good | {"decision": "accept", "reason": "a clear bark"}


class Server(ThreadingHTTPServer):
    """Chat completions; ``mood`` names what goes wrong next, in order."""

    daemon_threads = True

    def __init__(self):
        self.mood, self.asked, self.keys = [], [], set()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({"data": [{"id": "first-model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.add(self.headers.get("Authorization"))
        mood = self.server.mood.pop(0) if self.server.mood else "good"
        if mood == "slow":
            return time.sleep(1.0)
        if mood.isdigit():
            return self.send_error(int(mood), f"bad key {SECRET}")
        if mood == "no protocol":
            return self.reply({"error": "what?"})
        self.reply(
            {"choices": [{"message": {"role": "assistant", "content": self.text(mood, body)}}]}
        )

    def text(self, mood, body):
        system, user = (message["content"] for message in body["messages"][:2])
        role = next(
            r for r in ("plan", "refine", "verify") if system[:30] == prompts()[r]["system"][:30]
        )
        good = answer_to(role, user)
        wrong = {"prose": "I would plan a nice kitchen scene, with rain.", "torn": json.dumps(good)[:-9],
                 "other": json.dumps(good | {"mood": "cosy"}), "fenced": f"Sure!\n```json\n{json.dumps(good)}\n```",
                 "moon": json.dumps(good).replace("kitchen", "moon")}  # fmt: skip
        return wrong.get(mood, json.dumps(good))

    def reply(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setattr(chat, "PAUSE_S", 0.0)
    server = Server()
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    yield server
    server.shutdown()
    server.server_close()


def planner(server, timeout_s: float = 5.0) -> ChatPlanner:
    return ChatPlanner(Endpoint(server.url, "tiny", timeout_s))


def planned(by: ChatPlanner, seed: int = 0):
    return by.refine(by.plan(np.random.default_rng(seed)))


def test_a_model_plans_and_the_rules_have_the_last_word(server):
    scene = planned(planner(server))
    assert (scene.places, scene.doors, scene.planner) == (
        ("kitchen", "garden"),
        ("the back door",),
        "chat tiny",
    )
    front = [e.label for e in scene.events if e.role == "foreground"]
    assert front == ["chopping", "frying", "crickets"]  # in order
    assert "snoring" not in [e.label for e in scene.events] and "snoring left" in scene.notes[0]
    assert not any("rain" == e.label for e in scene.events)  # crickets exclude it
    assert all(e.query == "a sound heard close by" for e in scene.events)
    asked = server.asked[0]
    assert (asked["model"], asked["temperature"]) == ("tiny", 0.7)
    assert "The scene must hold: anything" in asked["messages"][1]["content"]
    assert asked["response_format"] == {"type": "json_object"}
    assert (
        planned(planner(server)) == scene and server.asked[2] == asked
    )  # the same seed asks the same


@pytest.mark.parametrize("mood, error", [
    ("prose", "no JSON object"), ("torn", "no valid JSON"), ("other", r"'mood' was unexpected"),
    ("moon", r"\$.places\[0\]: 'moon' is not one of"),
])  # fmt: skip
def test_a_wrong_answer_is_asked_again_with_the_error(server, mood, error, recwarn):
    import re

    server.mood = [mood, mood, "good"]
    by = planner(server)
    scene = by.plan(np.random.default_rng(0))
    assert scene.planner == "chat tiny"
    assert not [w for w in recwarn.list if w.category is RuntimeWarning]
    assert by.counts == {("plan", "asked"): 1, ("plan", "again"): 2}
    first, second, third = (body["messages"] for body in server.asked)
    assert [m["role"] for m in third] == [
        "system",
        "user",
        "assistant",
        "user",
    ] and first == second[:2]
    assert re.search(error, third[3]["content"])


def test_json_in_a_fence_is_json(server):
    server.mood = ["fenced"]
    by = planner(server)
    assert (
        by.plan(np.random.default_rng(0)).planner == "chat tiny" and by.counts["plan", "again"] == 0
    )


def test_three_wrong_answers_and_the_rules_do_it_and_say_so(server):
    server.mood = ["prose"] * 3
    by = planner(server)
    with pytest.warns(
        RuntimeWarning, match=r"chat tiny: no usable answer to 'plan' in 3 tries \(there is no JSON"
    ):
        scene = by.plan(np.random.default_rng(4))
    assert scene.planner == "rules, for chat tiny"
    assert by.refine(scene) == refine(scene) and 3 <= len(scene.events) <= 15
    assert by.summary() == "chat tiny: 1 questions, 2 asked again, 1 answered by the rules"


@pytest.mark.parametrize("mood, error", [
    ("slow", "ReadTimeout after at most 0.2 s"), ("500", "status 500"), ("401", "status 401; is AIKIT_CHAT_KEY set"),
    ("no protocol", "not in the chat protocol"),
])  # fmt: skip
def test_no_answer_is_told_counted_and_in_the_end_not_waited_for(server, mood, error):
    server.mood = [mood] * 100
    by = planner(server, timeout_s=0.2)
    with pytest.warns(RuntimeWarning, match=error) as told:
        scenes = [by.plan(np.random.default_rng(seed)) for seed in range(5)]
    assert {scene.planner for scene in scenes} == {"rules, for chat tiny"}
    assert len(server.asked) == 9  # three questions of three tries; then it is given up
    ours = [w for w in told if w.category is RuntimeWarning]  # whatever else the collector says meanwhile
    assert "it is not asked again" in str(ours[-1].message) and by.counts["plan", "rules"] == 5
    assert not any(SECRET in str(w.message) for w in told)


def test_nobody_there(monkeypatch):
    monkeypatch.setattr(chat, "PAUSE_S", 0.0)
    by = planner_from("http://127.0.0.1:9/v1#m")
    with pytest.warns(RuntimeWarning, match="ConnectError"):
        assert by.plan(np.random.default_rng(0)).planner == "rules, for chat m"


def test_the_verifier_is_asked_once_a_clip_and_identity_decides(server):
    by = planner(server)
    first = by.verify(NEED, ENTRY, FACTS)
    assert (first.decision, first.reason) == ("accept", "chat tiny says: a clear bark")
    assert by.verify(NEED, ENTRY, FACTS) == first and len(server.asked) == 1
    server.mood = ["prose"] * 3
    with pytest.warns(RuntimeWarning, match="'verify'"):
        other = by.verify(NEED, Entry(lambda: None, "dog_bark", "own", "b"), FACTS)
    assert other == Rules().verify(NEED, ENTRY, FACTS)
    liar = ChatPlanner(Fixed(json.dumps(answer_to("verify", "") | {"identity": False})))
    assert liar.verify(NEED, ENTRY, FACTS).decision == "reject"


class Fixed:
    name = "fixed"

    def __init__(self, text):
        self.text = text

    def __call__(self, messages, seed):
        return self.text


def test_a_stream_planned_by_a_model_that_is_often_wrong(server):
    server.mood = ["prose", "good", "torn", "500", "good", "moon", *["prose"] * 3] * 40
    sources = Sources.embedded(variants=2)
    sources.planner = planner_from(f"{server.url}")
    with pytest.warns(RuntimeWarning, match="the rules did it"):
        streams = [make_stream(sources, seed) for seed in range(6)]
    who = {stream.scenario["planner"] for stream in streams}
    assert who <= {"chat first-model", "rules, for chat first-model"}
    for stream in streams:
        noise = [d.label for d in stream.grounding if d.role.startswith("noise")]
        assert conflicts(stream.events, noise) == []
    metadata = repr([(stream.scenario, stream.grounding) for stream in streams])
    assert "chat first-model says" in metadata
    assert SECRET not in metadata and server.url not in metadata
    assert server.keys == {f"Bearer {SECRET}"}


def test_a_local_model_answers(root, tmp_path):
    """A chat pipeline of `transformers` with random weights: it babbles, and the rules plan."""
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(root / "data_samples/checkpoint/tokenizer.json")
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 4096}  # fmt: skip
    Qwen2ForCausalLM(Qwen2Config(**sizes)).save_pretrained(tmp_path)
    local = LocalModel(str(tmp_path), max_new_tokens=8)
    text = local([{"role": "user", "content": "hello"}], 3)
    assert isinstance(text, str) and text == local([{"role": "user", "content": "hello"}], 3)
    by = planner_from(f"local:{tmp_path}")
    by.chat.max_new_tokens = 8
    with pytest.warns(RuntimeWarning, match=f"local {tmp_path.name}: no usable answer to 'plan'"):
        assert by.plan(np.random.default_rng(0)).planner == f"rules, for local {tmp_path.name}"
    assert "/" not in by.name


def test_a_planner_is_named_on_the_command_line():
    assert isinstance(planner_from(None), Rules) and isinstance(planner_from("rules"), Rules)
    by = planner_from("https://example.org/v1#some-model")
    assert (by.chat.url, by.chat.model, by.name) == (
        "https://example.org/v1",
        "some-model",
        "chat some-model",
    )
    for spec in ("gpt", "ftp://host/v1", "local:", "http://"):
        with pytest.raises(ValueError, match="no such planner"):
            planner_from(spec)
    for spec in (f"https://me:{SECRET}@host/v1", f"https://host/v1?api-key={SECRET}"):
        with pytest.raises(ValueError, match="put the key into AIKIT_CHAT_KEY") as refused:
            planner_from(spec)
        assert SECRET not in str(refused.value)
