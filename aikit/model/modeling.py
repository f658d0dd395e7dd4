"""`AudioInteractionModel`: an audio tower and a causal LM that decides at every chunk (paper §3).

Knows frames, token positions and the two losses. Does not know waveforms, files or sessions: it maps
``(frames, input_ids)`` to logits. The same class holds 5 million and 3 billion parameters. Taught in
notebook 02.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_outputs import ModelOutput
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from aikit.config import DecoderConfig, ModelConfig
from aikit.model.tower import TowerState, build_tower
from aikit.tokens import IGNORED, LAYOUTS, TokenLayout

# transformers renamed the argument on the way from 5.0 to 5.24
CACHE_ARGUMENT = (
    "cache" if "cache" in inspect.signature(Qwen2ForCausalLM.forward).parameters else "past_key_values"
)


class AudioInteractionConfig(PretrainedConfig):
    """A `ModelConfig` in transformers' clothes; ``shape`` is its plain dict."""

    model_type = "audio_interaction"
    shape: dict | None = None

    @property
    def model(self) -> ModelConfig:
        """The shape as a dataclass."""
        return ModelConfig.from_dict(self.shape) if self.shape else ModelConfig()


@dataclass
class AudioInteractionOutput(ModelOutput):
    """Losses are scalars; logits ``[B, T, V]`` without labels, the last hidden state ``[B, T, D]`` with them."""

    loss: Tensor | None = None
    loss_lm: Tensor | None = None
    loss_stream: Tensor | None = None
    logits: Tensor | None = None
    last_hidden_state: Tensor | None = None


def decoder_config(config: DecoderConfig) -> Qwen2Config:
    """Our decoder shape as the configuration of transformers' Qwen2."""
    return Qwen2Config(
        vocab_size=config.vocab,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim or config.width // config.heads,
        intermediate_size=config.mlp,
        max_position_embeddings=config.max_positions,
        tie_word_embeddings=config.tied,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        use_cache=False,
    )


class HalfRotary(Qwen2RotaryEmbedding):
    """Rotary positions as the published code computes them (paper §7 of its code): in float16.

    Exact up to 2048; from there positions snap to multiples of 2, then of 4.
    """

    def forward(self, x: Tensor, position_ids: Tensor):
        return super().forward(x, position_ids.half())


def build_decoder(config: DecoderConfig) -> Qwen2ForCausalLM:
    """The language model of a shape."""
    decoder = Qwen2ForCausalLM(decoder_config(config))
    if config.half_positions:
        decoder.model.rotary_emb = HalfRotary(decoder.config)
    return decoder


def build_adapter(tower_width: int, decoder_width: int) -> nn.Module:
    """Map frames to the decoder's width (the paper's projector)."""
    if tower_width == decoder_width:  # the published tower brings its own projection
        return nn.Identity()
    return nn.Sequential(
        nn.Linear(tower_width, decoder_width), nn.GELU(), nn.Linear(decoder_width, decoder_width)
    )


class AudioInteractionModel(PreTrainedModel):
    """Perceive, decide, respond: ``tower -> adapter -> decoder``."""

    config_class = AudioInteractionConfig
    base_model_prefix = "audio_interaction"
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: AudioInteractionConfig):
        super().__init__(config)
        self.shape = config.model
        self.tower = build_tower(self.shape)
        self.adapter = build_adapter(self.tower.output_width, self.shape.decoder.width)
        self.decoder = build_decoder(self.shape.decoder)
        self.post_init()

    @classmethod
    def from_preset(cls, config: ModelConfig, seed: int = 0) -> AudioInteractionModel:
        """A model with random weights; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(AudioInteractionConfig(shape=config.to_dict()))

    def _init_weights(self, module: nn.Module) -> None:
        """The parts that are ours keep PyTorch's own initialisation."""

    @property
    def layout(self) -> TokenLayout:
        """The control tokens that this model was trained with."""
        return LAYOUTS[self.shape.layout]

    def n_parameters(self) -> int:
        """Number of weights; tied ones count once."""
        return sum(weight.numel() for weight in self.parameters())

    def encode(
        self, mel: Tensor, state: TowerState | None = None
    ) -> tuple[Tensor, TowerState | None]:
        """Perceive: mel ``[B, M, 40 n]`` -> frames ``[B, 10 n, decoder width]`` and the tower's state."""
        frames, state = self.tower.encode(mel, state)
        return self.adapter(frames), state

    def embed(self, input_ids: Tensor, frames: Tensor | None = None) -> Tensor:
        """Token embeddings ``[B, T, D]``, the frames standing where the layout has frame positions.

        The k-th frame position of a row takes the row's k-th frame ``frames[b, k]``.
        """
        embeddings = self.decoder.model.embed_tokens(input_ids)
        if frames is None or frames.shape[1] == 0:
            return embeddings
        is_frame = (input_ids == self.layout.frame) | (input_ids == self.layout.offline_frame)
        which = (is_frame.cumsum(1) - 1).clamp(0, frames.shape[1] - 1)
        placed = frames.gather(1, which[..., None].expand(-1, -1, frames.shape[2]))
        return torch.where(is_frame[..., None], placed.to(embeddings.dtype), embeddings)

    def decode(self, embeddings: Tensor, cache=None, position_ids: Tensor | None = None) -> Tensor:
        """Hidden states ``[B, T, D]`` of the decoder; ``cache`` (a transformers cache) grows by T."""
        cached = {CACHE_ARGUMENT: cache} if cache is not None else {}
        return self.decoder.model(
            inputs_embeds=embeddings,
            position_ids=position_ids,
            use_cache=cache is not None,
            **cached,
        ).last_hidden_state

    def logits(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Logits over the vocabulary, or only over the vocabulary rows ``ids``."""
        if ids is None:
            return self.decoder.lm_head(hidden)
        return F.linear(hidden, self.decoder.lm_head.weight[ids])

    def forward(
        self,
        input_ids: Tensor,
        frames: Tensor | None = None,
        mel: Tensor | None = None,
        labels_stream: Tensor | None = None,
        labels_lm: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> AudioInteractionOutput:
        """The whole stream at once, as in training (paper §3.3).

        Parameters
        ----------
        input_ids : int64 ``[B, T]``; padding on the right needs no mask, as the decoder is causal
        frames : float ``[B, F, decoder width]`` from `encode`, or
        mel : float ``[B, M, 40 n]`` to encode here
        labels_stream, labels_lm : int64 ``[B, T]``, -100 where masked
        counts : float ``[2]``, what the two losses are divided by; None = `count_targets` of these labels

        Returns
        -------
        AudioInteractionOutput
            With labels: ``loss = loss_lm + λ loss_stream``, each a mean over its own targets.
            Without: logits at every position.
        """
        if mel is not None:
            frames, _ = self.encode(mel)
        hidden = self.decode(self.embed(input_ids, frames))
        if labels_stream is None and labels_lm is None:
            return AudioInteractionOutput(logits=self.logits(hidden))
        counts = self.count_targets(labels_lm, labels_stream) if counts is None else counts
        n_lm, n_stream = counts.clamp(min=1e-6)  # no target: a sum of nothing
        loss_lm = self._loss(hidden, labels_lm) / n_lm
        loss_stream = self._loss(hidden, labels_stream, self.stream_weights(hidden)) / n_stream
        loss = loss_lm + self.shape.stream_weight * loss_stream
        return AudioInteractionOutput(loss, loss_lm, loss_stream, last_hidden_state=hidden)

    def count_targets(self, labels_lm: Tensor | None, labels_stream: Tensor | None) -> Tensor:
        """How many targets each row of labels has, the control tokens by their weight: float ``[2]``."""
        counts = []
        for labels, weighted in ((labels_lm, False), (labels_stream, True)):
            kept = torch.zeros(1) if labels is None else (labels[:, 1:] != IGNORED).float()
            if labels is not None and weighted:
                kept = kept * self.stream_weights(labels)[labels[:, 1:].clamp(min=0)]
            counts.append(kept.sum().to(self.device))
        return torch.stack(counts)

    def stream_weights(self, like: Tensor) -> Tensor:
        """What each entry of the vocabulary weighs as a decision: float ``[V]`` on the device of ``like``."""
        weights = torch.ones(self.shape.decoder.vocab, device=like.device)
        weights[self.layout.response] = self.shape.response_weight
        return weights

    def _loss(self, hidden: Tensor, labels: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """Summed cross-entropy of the next token, computed only where a label stands."""
        if labels is None or not (kept := labels[:, 1:] != IGNORED).any():
            return hidden.sum() * 0.0
        logits = self.logits(hidden[:, :-1][kept])
        return F.cross_entropy(logits.float(), labels[:, 1:][kept], weight=weights, reduction="sum")
