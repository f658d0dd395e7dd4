"""The published weights, and their base: the names, shapes and configurations of three kinds of folder.

Knows what a folder's files mean; `shards.py` reads and writes the tensors. Does not know audio or
sessions. Taught in notebook 07.

========== ==================================================== ======================================
form       configuration                                        tensors
========== ==================================================== ======================================
own        ``config.json`` of `AudioInteractionModel`           as the class names them
published  ``model_config.yaml``, ``qwen25OmniConfig/``         LitGPT's names; the tower in a ``.pth``
omni       ``config.json`` of Qwen2.5-Omni                      transformers' names; only the thinker
========== ==================================================== ======================================

A published model is transformers' `Qwen2ForCausalLM` and `Qwen2_5OmniAudioEncoder` under other names: q,
k and v are stacked in one tensor, nothing is transposed (paper §7 of its code).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from aikit.config import AudioConfig, DecoderConfig, ModelConfig, TowerConfig
from aikit.tokens import SILENT_MARKER, Reply

FORMS = ("own", "published", "omni")
HUB_NAME = "zhifeixie/AudioInteraction-2M"  # where the published code downloads from
YAML, OMNI_CONFIG, TOWER_FILE = (
    "model_config.yaml", "qwen25OmniConfig/config.json", "audiointeraction_ChunkwisedEncoder.pth",
)  # fmt: skip

LITGPT = {  # ours, inside a layer -> theirs
    "self_attn.q_proj": "attn.qkv", "self_attn.k_proj": "attn.qkv", "self_attn.v_proj": "attn.qkv",
    "self_attn.o_proj": "attn.proj", "mlp.gate_proj": "mlp.fc_1", "mlp.up_proj": "mlp.fc_2",
    "mlp.down_proj": "mlp.proj", "input_layernorm": "norm_1", "post_attention_layernorm": "norm_2",
}  # fmt: skip
LITGPT_OUTSIDE = {
    "decoder.model.embed_tokens.weight": "transformer.wte.weight",
    "decoder.model.norm.weight": "transformer.ln_f.weight",
    "decoder.lm_head.weight": "lm_head.weight",
}
OMNI_PREFIXES = {"decoder.": "", "tower.encoder.": "audio_tower."}
OMNI_UNUSED = ("visual.", "model.visual.", "talker.", "token2wav.")  # it also sees and speaks

# what the classes compute; a checkpoint that asks for anything else would load and be wrong
LITGPT_FIXED = {
    "norm_class_name": "RMSNorm", "mlp_class_name": "LLaMAMLP", "rotary_percentage": 1.0,
    "norm_eps": 1e-6, "attn_bias": True, "bias": False, "lm_head_bias": False,
    "parallel_residual": False,
}  # fmt: skip
ENCODER_FIXED = {"n_window": 100, "max_source_positions": 1500, "scale_embedding": False}


def form_of(folder: Path) -> str:
    """Which of `FORMS` a folder has.

    Raises
    ------
    FileNotFoundError
        If it has none; the message says what was looked for.
    """
    if (folder / YAML).exists():
        return "published"
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(
            f"no model in {folder}: it has neither config.json (the kit's own, or Qwen2.5-Omni) nor "
            f"{YAML} (the published weights)"
        )
    kind = json.loads(path.read_text("utf-8")).get("model_type")
    forms = {"audio_interaction": "own", "qwen2_5_omni": "omni", "qwen2_5_omni_thinker": "omni"}
    if kind not in forms:
        raise ValueError(
            f"{path} is of a model of type {kind!r}; expected one of {', '.join(forms)}"
        )
    return forms[kind]


# --- names -----------------------------------------------------------------------------------------
def stored_name(name: str, form: str) -> str:
    """How a form calls one of our tensors; in "published", q, k and v get the same name."""
    if form == "own":
        return name
    if form == "omni":
        ours = next(prefix for prefix in OMNI_PREFIXES if name.startswith(prefix))
        return OMNI_PREFIXES[ours] + name.removeprefix(ours)
    if layer := re.fullmatch(r"decoder\.model\.layers\.(\d+)\.(.+)\.(weight|bias)", name):
        number, part, kind = layer.groups()
        return f"transformer.h.{number}.{LITGPT[part]}.{kind}"
    return LITGPT_OUTSIDE.get(name) or name.removeprefix("tower.encoder.")


def grouped_names(names: Iterable[str], form: str) -> dict[str, list[str]]:
    """Stored tensor -> those of ours that it holds, stacked by rows."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(stored_name(name, form), []).append(name)
    return groups


# --- configurations --------------------------------------------------------------------------------
def read_config(folder: Path, form: str) -> ModelConfig:
    """The shape that a folder's configuration files describe.

    Raises
    ------
    ValueError
        If a setting asks for something that the kit's classes do not compute.
    """
    if form == "own":
        shape = json.loads((folder / "config.json").read_text("utf-8")).get("shape")
        return ModelConfig.from_dict(shape) if shape else ModelConfig()
    if form == "published":
        return _from_litgpt(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    thinker = config.get("thinker_config", config)
    return ModelConfig(
        "qwen2.5-omni", "published", *_encoder(thinker["audio_config"], folder),
        _from_qwen(thinker["text_config"]),
    )  # fmt: skip


def _from_litgpt(folder: Path) -> ModelConfig:
    import yaml

    values = yaml.safe_load((folder / YAML).read_text("utf-8"))
    _refuse_others(values, LITGPT_FIXED, folder / YAML)
    path = folder / OMNI_CONFIG
    if not path.exists():
        raise FileNotFoundError(
            f"no model in {folder}: {OMNI_CONFIG} is missing (the tower's shape)"
        )
    omni = json.loads(path.read_text("utf-8"))
    decoder = DecoderConfig(
        width=values["n_embd"], layers=values["n_layer"], heads=values["n_head"],
        kv_heads=values["n_query_groups"], mlp=values["intermediate_size"],
        vocab=values["padded_vocab_size"], tied=False, max_positions=values["block_size"],
        rope_theta=float(values["rope_base"]), head_dim=values.get("head_size"), half_positions=True,
    )  # fmt: skip
    audio, tower = _encoder(omni["thinker_config"]["audio_config"], path)
    return ModelConfig(values["name"], "published", audio, tower, decoder)


def _from_qwen(text: dict) -> DecoderConfig:
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    return DecoderConfig(
        width=text["hidden_size"], layers=text["num_hidden_layers"],
        heads=text["num_attention_heads"], kv_heads=text["num_key_value_heads"],
        mlp=text["intermediate_size"], vocab=text["vocab_size"],
        tied=text.get("tie_word_embeddings", False), max_positions=text["max_position_embeddings"],
        rope_theta=float(text.get("rope_theta") or rope["rope_theta"]), head_dim=text.get("head_dim"),
    )  # fmt: skip


def _encoder(values: dict, path: Path) -> tuple[AudioConfig, TowerConfig]:
    _refuse_others(values, ENCODER_FIXED, path)
    tower = TowerConfig(
        "qwen2_5_omni", values["d_model"], values["encoder_layers"],
        values["encoder_attention_heads"], values["encoder_ffn_dim"], context_chunks=0,
    )  # fmt: skip
    return AudioConfig(n_mels=values["num_mel_bins"]), tower


def _refuse_others(values: dict, fixed: dict, path: Path) -> None:
    for key, known in fixed.items():
        if values.get(key, known) != known:
            raise ValueError(f"{path}: {key} is {values[key]!r}; the kit's model has {known!r}")


def write_config(config: ModelConfig, folder: Path, form: str) -> None:
    """Write a shape as a form's configuration files.

    Raises
    ------
    ValueError
        If the form cannot hold such a model.
    """
    from aikit.model.modeling import AudioInteractionConfig

    if form == "own":
        kept = AudioInteractionConfig(shape=config.to_dict())
        kept.architectures = ["AudioInteractionModel"]
        kept.save_pretrained(folder)
        return
    if config.tower.kind != "qwen2_5_omni":
        raise ValueError(
            f"a {config.tower.kind!r} tower is the kit's own; no other form can hold it"
        )
    if form == "published":
        import yaml

        (folder / YAML).write_text(yaml.safe_dump(_litgpt(config), sort_keys=False), "utf-8")
    path = folder / (OMNI_CONFIG if form == "published" else "config.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(_omni(config), indent=1) + "\n", "utf-8")


def _litgpt(config: ModelConfig) -> dict:
    d = config.decoder
    return {
        "name": config.name, "block_size": d.max_positions, "n_layer": d.layers, "n_embd": d.width,
        "n_head": d.heads, "n_query_groups": d.kv_heads, "head_size": d.head_dim or d.width // d.heads,
        **LITGPT_FIXED, "intermediate_size": d.mlp, "rope_base": int(d.rope_theta),
        "vocab_size": d.vocab, "padded_vocab_size": d.vocab,
    }  # fmt: skip


def _omni(config: ModelConfig) -> dict:
    d, t = config.decoder, config.tower
    head = d.head_dim or d.width // d.heads
    for_sight = 3 * head // 16  # height and width each; for sound, all three sections count alike
    sections = [head // 2 - 2 * for_sight, for_sight, for_sight]
    text = {
        "model_type": "qwen2_5_omni_text", "hidden_size": d.width, "num_hidden_layers": d.layers,
        "num_attention_heads": d.heads, "num_key_value_heads": d.kv_heads,
        "intermediate_size": d.mlp, "vocab_size": d.vocab, "tie_word_embeddings": d.tied,
        "max_position_embeddings": d.max_positions, "rope_theta": d.rope_theta,
        "head_dim": head, "rope_scaling": {"rope_type": "default", "mrope_section": sections},
    }  # fmt: skip
    audio = {
        "model_type": "qwen2_5_omni_audio_encoder", "d_model": t.width, "encoder_layers": t.layers,
        "encoder_attention_heads": t.heads, "encoder_ffn_dim": t.mlp, "output_dim": d.width,
        "num_mel_bins": config.audio.n_mels, **ENCODER_FIXED,
    }  # fmt: skip
    thinker = {"model_type": "qwen2_5_omni_thinker", "audio_config": audio, "text_config": text}
    return {"model_type": "qwen2_5_omni", "enable_audio_output": False, "thinker_config": thinker}


# --- training records ------------------------------------------------------------------------------
def record_timeline(record: dict, frames_per_chunk: int = 10) -> tuple[list[Reply], int, list[str]]:
    """A record of the published training data as a timeline (its "step 4").

    Parameters
    ----------
    record : ``turns`` with their lengths in frames of 40 ms, ``tail_silence_frames_actual``

    Returns
    -------
    timeline : each reply due in the chunk in which its turn's last frame is followed by another
    n_chunks : length of the stream
    lost : replies of turns that end in the same chunk as the turn before; the published data lose them
    """
    timeline, lost, total, last = [], [], 0, -1
    for turn in record["turns"]:
        total += turn["leading_silence_frames"] + turn["audio_frames"]
        chunk, text = total // frames_per_chunk, turn["assistant"]
        if text.strip().strip("<>").lower() != SILENT_MARKER.strip("<>"):
            reply = Reply(chunk, text, turn.get("emotion") or "normal")
            timeline.append(reply) if chunk > last else lost.append(text)
        last = chunk
    n_chunks = (total + record["tail_silence_frames_actual"]) // frames_per_chunk
    return timeline, max(n_chunks, last + 1), lost
