"""The 7 abilities and 28 sub-tasks as a table, and streams of them (paper §3.2; the sub-tasks' names are ours).

Knows which recipe makes which sub-task, how often, and how a script becomes a stream. Does not know what
happens in a recipe (`recipes.py`) or levels (`compose.py`). Taught in notebook 01.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aikit.config import AudioConfig
from aikit.synth import recipes as r
from aikit.synth.compose import Stream, compose, place_foreground
from aikit.synth.dialogue import Dialogue
from aikit.synth.grammar import all_written
from aikit.synth.ontology import ontology
from aikit.synth.script import Sources, backdrop, noise_tracks, phrases, write_script
from aikit.tokens import DEFAULT_INSTRUCTION

N_CHUNKS = 60  # 24 s, the paper's longest training stream

# ability -> sub-task -> (recipe, how often it is drawn)
ABILITIES: dict[str, dict[str, tuple[r.Recipe, float]]] = {
    "proactive response": {
        "body in distress": (r.proactive("body"), 2.0),
        "weather or natural hazard": (r.proactive("weather"), 2.0),
        "equipment or fire": (r.proactive("equipment"), 2.0),
        "traffic and alarms": (r.proactive("safety"), 2.0),
    },
    "real-time ASR": {
        "digit strings": (r.transcribe("digits"), 1.5),
        "short commands": (r.transcribe("commands"), 1.0),
        "read sentences": (r.transcribe("sentences"), 1.2),
        "speech in noise": (r.transcribe("sentences", noisy=True), 0.6),
    },
    "streaming translation": {
        "en→es": (r.translate("en", "es"), 1.2),
        "es→en": (r.translate("es", "en"), 1.0),
        "en→zh": (r.translate("en", "zh"), 1.2),
        "simultaneous": (r.translate("en", "es", simultaneous=True), 0.6),
    },
    "voice chatting": {
        "small talk": (r.chat(Dialogue.small_talk), 0.8),
        "closed-set facts": (r.chat(Dialogue.fact), 1.2),
        "slots remembered": (r.slots, 1.2),
        "smart home": (r.chat(r.home_or_talk), 0.8),
    },
    "streaming audio understanding": {
        "name the sound": (r.name_sound, 1.0),
        "count": (r.count_sounds, 1.2),
        "order": (r.order, 0.8),
        "place": (r.place, 0.6),
    },
    "streaming instruction following": {
        "tell me when": (r.follow("tell"), 1.2),
        "count live": (r.follow("count"), 1.2),
        "stop the instruction": (r.stop, 1.0),
        "answer in one word": (r.follow("name"), 0.8),
    },
    "environment-aware agent": {
        "appliance finished": (r.agent("machine"), 0.6),
        "reminder on a sound": (r.agent("remind"), 0.8),
        "instrument": (r.instrument, 0.6),
        "too noisy": (r.too_noisy, 0.5),
    },
}

# what a stream may also be made of, beside the sub-tasks
EXTRA: dict[str, r.Recipe] = {"silence": r.silence, "dictation": r.dictation, "tally": r.tally}

# groups of sub-tasks that the training recipe mixes (paper §3.3); "pair" is one of two streams of `pairs.py`
GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(task for tasks in ABILITIES.values() for task in tasks),
    "proactive": tuple(ABILITIES["proactive response"]),
    "history": ("slots remembered", "count", "order", "stop the instruction"),
    "agent": ("appliance finished", "reminder on a sound"),
    "digits": ("digit strings",),
    "silence": ("silence",),
    "dictation": ("dictation",),
    "tally": ("tally",),
    "pairs": ("pair",),
    # who is told of a sound must know it again when it comes, and how often: learned last, and only from many contrasts
    "names": ("pair: tell", "pair: count", "pair: agent", "pair: name"),
    "rules": ("pair: hazard",),
    "counting": ("count", "count live", "pair: count"),
}


def sub_tasks(ability: str | None = None) -> dict[str, tuple[str, r.Recipe, float]]:
    """Sub-task -> (ability, recipe, weight), of one ability or of all.

    Raises
    ------
    ValueError
        For an unknown ability.
    """
    if ability is not None and ability not in ABILITIES:
        raise ValueError(f"no ability {ability!r}; choose one of: {', '.join(ABILITIES)}")
    chosen = ABILITIES if ability is None else {ability: ABILITIES[ability]}
    return {task: (name, *entry) for name, tasks in chosen.items() for task, entry in tasks.items()}


def make_stream(
    sources: Sources,
    seed: int,
    ability: str | None = None,
    sub_task: str | None = None,
    n_chunks: int = N_CHUNKS,
    keep_layers: bool = False,
    audio: AudioConfig = AudioConfig(),
) -> Stream:
    """Make one stream; the same sources and arguments give the same bytes.

    Parameters
    ----------
    ability, sub_task : fix either, or leave them to chance
    n_chunks : length in chunks
    audio : the grid; chunks of 400 ms

    Raises
    ------
    ValueError
        For an unknown ability or sub-task.
    """
    script, rng, about = written(sources, seed, ability, sub_task, n_chunks * audio.chunk_s)
    stream = compose(
        [*script.items, *([] if script.alone else backdrop(script))],
        rng,
        noise=noise_tracks(script),
        snr_db=script.snr_db,
        n_chunks=n_chunks,
        gain_db=float(rng.uniform(-18, 3)),
        keep_layers=keep_layers,
        config=audio,
    )
    return replace(stream, scenario=script.scenario.record(), grounding=script.used(), **about)


def outline(
    sources: Sources, seed: int, ability: str | None = None, sub_task: str | None = None
) -> Stream:
    """The stream of `make_stream`, its foreground events and replies but no sound: enough to judge it by."""
    script, _, about = written(sources, seed, ability, sub_task)
    events, _ = place_foreground(script.items)
    return Stream(np.zeros(0, np.float32), (), tuple(events), **about)


def written(
    sources: Sources,
    seed: int,
    ability: str | None = None,
    sub_task: str | None = None,
    length_s: float = N_CHUNKS * AudioConfig().chunk_s,
) -> tuple[Dialogue, np.random.Generator, dict]:
    """A stream's script, the state of chance after it, and what the stream says about itself."""
    rng = np.random.default_rng((seed, int(sources.held_out)))
    tasks = sub_tasks(ability)
    if sub_task in EXTRA:
        tasks = {sub_task: ("", EXTRA[sub_task], 1.0)}
    if sub_task is None:
        weights = np.array([weight for _, _, weight in tasks.values()])
        sub_task = list(tasks)[rng.choice(len(tasks), p=weights / weights.sum())]
    elif sub_task not in tasks:
        raise ValueError(f"no sub-task {sub_task!r}; choose one of: {', '.join(tasks)}")
    ability, recipe, _ = tasks[sub_task]
    script = Dialogue(sources, rng, length_s - 0.9)
    write_script(recipe, script, interludes=sub_task not in EXTRA)
    about = {"ability": ability, "sub_task": sub_task, "seed": seed}
    return script, rng, about | {"instruction": script.instruction, "rule": script.rule}


def all_texts() -> list[str]:
    """Every word that is written (replies, instructions) where it may stand: what the tokenizer is trained on."""
    texts: list[str] = [DEFAULT_INSTRUCTION, *all_written()]
    acts, answers = phrases()["acts"], phrases()["understanding"]["answers"].values()
    named = [acts["tell"]["reply"], *answers, *(book["ack"] for book in acts.values())]
    for sound in ontology().values():
        texts += [
            sound.name,
            sound.name.capitalize() + ".",
            sound.plural,
            sound.answer,
            *sound.replies,
        ]
        texts += [t.format(name=sound.name) for t in named if "{name}" in t]
    texts += [number.capitalize() + "." for number in phrases()["numbers"]]
    return texts + [f"{a} {b} {c}" for a in range(10) for b in range(10) for c in range(10)]
