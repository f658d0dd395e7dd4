"""What each sound is called, where it belongs and whether it deserves a reply.

Knows: `texts/ontology.yaml`, one entry a label, checked when it is first read. Does not know: how
a sound is made (`sounds.py`). Domains are Proactive-Sound-Bench's, the four criteria paper §3.3's.
Taught in notebook 01.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path

PATH = Path(__file__).parent / "texts" / "ontology.yaml"
CHOICES = {"policy": {"respond", "ignore"},
           "criterion": {"", "body", "weather", "equipment", "safety"},
           "emotion": {"happy", "sad", "angry", "surprise", "normal", "urgent"}}
ROLES = {"foreground", "background", "ambient"}


@dataclass(frozen=True)
class Sound:
    """One label: `caption` is for retrieval, `name`, `plural` and `answer` for spoken text."""

    label: str
    caption: str
    name: str
    plural: str
    domain: str
    sub_domain: str
    policy: str                      # respond | ignore
    emotion: str                     # of the reply
    places: tuple[str, ...]
    role: tuple[str, ...]            # the roles it can take in a stream
    tags: tuple[str, ...]
    answer: str                      # "That was a dog barking."
    criterion: str = ""              # why it deserves a reply: body | weather | equipment | safety
    replies: tuple[str, ...] = ()
    seconds: float = 2.0             # how long it usually lasts
    times: tuple[str, ...] = ()      # of the day; none: any
    who: str = ""                    # must be there: person | child | crowd | sleeper
    excludes: tuple[str, ...] = ()   # labels never heard at the same time, named on one side only


@cache
def ontology() -> dict[str, Sound]:
    """Reads the ontology once; label -> Sound. Raises ValueError naming the label that is wrong."""
    return read_ontology(PATH.read_text(encoding="utf-8"))


def read_ontology(text: str) -> dict[str, Sound]:
    """Parses and checks the YAML `text` of an ontology."""
    import yaml

    return {label: _sound(label, entry) for label, entry in yaml.safe_load(text).items()}


def _sound(label: str, entry: dict) -> Sound:
    known = {f.name: f for f in fields(Sound) if f.name != "label"}
    missing = {k for k, f in known.items() if f.default is MISSING} - set(entry)
    if missing or set(entry) - set(known):
        unknown = sorted(set(entry) - set(known))
        raise ValueError(f"{label}: missing {sorted(missing)}, unknown {unknown}")
    sound = Sound(label, **{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()})
    for key, allowed in CHOICES.items():
        if (value := getattr(sound, key)) not in allowed:
            raise ValueError(f"{label}: {key} is {value!r}, expected one of {sorted(allowed)}")
    if not set(sound.role) <= ROLES:
        raise ValueError(f"{label}: role is {sound.role}, expected some of {sorted(ROLES)}")
    if (sound.policy == "respond") != bool(sound.replies and sound.criterion):
        raise ValueError(f"{label}: replies and a criterion go with policy 'respond', only there")
    return sound


def labels(policy: str | None = None, domain: str | None = None,
           place: str | None = None) -> list[str]:
    """Sorted labels of one policy, domain and place; None means any."""
    return sorted(s.label for s in ontology().values() if policy in (None, s.policy)
                  and domain in (None, s.domain) and (place is None or place in s.places))
