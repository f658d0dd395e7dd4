"""The training stages as one table: the paper's row beside ours (paper §3.3, App. B.2).

Knows what is trained, on what, for how long. Does not know how a step is made (`loop.py`). Taught in
notebook 02.

The paper starts from Qwen2.5-Omni-3B, which hears and speaks already. The kit starts from nothing, so a
stage 0 is added, in which the tower learns to hear, and in no stage can the decoder stay frozen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BETAS, EPSILON = (0.9, 0.95), 1e-8  # AdamW, as in the paper
WEIGHT_DECAY = 0.01
WARM_UP = 0.03  # share of a stage's steps
CLIP_NORM = 1.0


@dataclass(frozen=True)
class PaperStage:
    """What the paper did in a stage, on 32 H100 in about ten days."""

    data: str
    trainable: str
    learning_rate: float
    steps: int
    batch: int


@dataclass(frozen=True)
class Stage:
    """What the kit does in a stage."""

    name: str
    layout: str  # "hear" (no decoder), "offline" (a clip, then its answer) or "online" (streams)
    trainable: tuple[str, ...]  # parts of the model
    learning_rate: float
    steps: int
    batch: int
    mix: tuple[tuple[str, float], ...] = (("all", 1.0),)  # groups of sub-tasks and their shares
    masked: float = 0.0  # share of every stream from which bands and moments are taken (`data.masked`)
    hear_weight: float = 0.3  # of what is heard (sounds, phonemes, words) beside the two losses of the paper
    paper: PaperStage | None = None


EVERYTHING = ("tower", "adapter", "decoder")

STAGES: tuple[Stage, ...] = (
    Stage(
        "hear", "hear", ("tower",), 1e-3, 1800, 8, hear_weight=1.0,
        # words in random order teach sounds; the sentences of the sub-tasks alone would be learned by heart
        mix=(("dictation", 0.6), ("all", 0.4)),
    ),
    Stage(
        "format", "offline", ("adapter", "decoder"), 1e-3, 60, 16, hear_weight=0.0,
        paper=PaperStage("offline single-turn", "LM head + new embeddings", 1e-4, 5_000, 512),
    ),
    Stage(
        "adapter", "offline", EVERYTHING, 1e-3, 60, 16,
        paper=PaperStage("same format", "adapter", 1e-4, 20_000, 1024),
    ),
    Stage(
        "streaming", "online", EVERYTHING, 1e-3, 5000, 8, hear_weight=0.5,
        # random words that somebody wants written: only a decoder that finds them in the frames can answer;
        # and more of what is learned last: to remember, to tell digits of many voices, to know a named sound again
        mix=(("all", 0.32), ("names", 0.10), ("rules", 0.10), ("counting", 0.10), ("tally", 0.06), ("history", 0.06),
             ("digits", 0.10), ("pairs", 0.04), ("dictation", 0.08), ("silence", 0.04)),
        masked=0.7,
        paper=PaperStage("4 core abilities", "adapter + LM", 5e-5, 80_000, 1024),
    ),
    Stage(
        "instruct", "online", EVERYTHING, 1e-4, 200, 8,
        # half of the streams as before, half in the paper's shares of 0.30, 0.40 and 0.30
        mix=(("all", 0.30), ("names", 0.10), ("rules", 0.10),
             ("history", 0.15), ("silence", 0.20), ("proactive", 0.15)),
        masked=0.7,
        paper=PaperStage("multi-turn; history 0.30, silence 0.40, proactive 0.30", "adapter + LM",
                         1e-5, 15_000, 1024),
    ),
)  # fmt: skip


def stages(names: str | None = None, scale: float = 1.0) -> tuple[Stage, ...]:
    """The stages to run, their steps multiplied by ``scale``.

    Parameters
    ----------
    names : comma-separated names, in the table's order; None = all

    Raises
    ------
    ValueError
        For an unknown name, or a scale that is not positive.
    """
    if scale <= 0:
        raise ValueError(f"scale must be positive, not {scale}")
    known = [stage.name for stage in STAGES]
    wanted = known if names is None else [name.strip() for name in names.split(",")]
    if unknown := set(wanted) - set(known):
        raise ValueError(f"no stage {', '.join(unknown)}; choose from {', '.join(known)}")
    chosen = [stage for stage in STAGES if stage.name in wanted]
    return tuple(replace(stage, steps=max(1, round(stage.steps * scale))) for stage in chosen)


def table() -> list[dict]:
    """The recipe as rows for a notebook or a model card."""
    rows = []
    for number, stage in enumerate(STAGES):
        paper = stage.paper
        rows.append({
            "stage": f"{number} {stage.name}",
            "trained here": ", ".join(stage.trainable),
            "learning rate": stage.learning_rate,
            "steps": stage.steps,
            "batch": stage.batch,
            "masked": stage.masked,
            "paper trains": paper.trainable if paper else "(pretrained)",
            "paper rate": paper.learning_rate if paper else None,
            "paper steps": paper.steps if paper else None,
            "paper batch": paper.batch if paper else None,
        })  # fmt: skip
    return rows
