"""The model: streaming equals offline, two losses, one folder format; on a 16-wide model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aikit.config import PRESETS, ModelConfig, preset
from aikit.model.modeling import AudioInteractionModel
from aikit.model.processing import collate, offline_example, online_example
from aikit.synth.abilities import all_texts
from aikit.synth.compose import Stream
from aikit.tokens import IGNORED, OWN_LAYOUT, Reply, Tokenizer

NANO = preset("nano")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(all_texts())


@pytest.fixture(scope="module")
def model():
    return AudioInteractionModel.from_preset(NANO).eval()


def _small_published() -> ModelConfig:
    shape = PRESETS["qwen2.5-omni-3b"]
    tower = replace(shape.tower, width=32, layers=1, heads=2, mlp=32)
    return replace(shape, tower=tower, decoder=replace(NANO.decoder, width=32, heads=2))


@pytest.mark.parametrize(
    "config",
    [NANO, replace(NANO, tower=replace(NANO.tower, context_chunks=0)), _small_published()],
    ids=["causal", "chunk alone", "published"],
)
def test_streamed_frames_equal_offline_frames_for_any_split(config):
    model = AudioInteractionModel.from_preset(config).eval()
    mel = torch.randn(2, config.audio.n_mels, 40 * 7)
    with torch.no_grad():
        whole, _ = model.encode(mel)
        for split in ([1] * 7, [2, 5], [3, 1, 3]):
            state, parts = None, []
            for piece in mel.split([40 * n for n in split], dim=2):
                frames, state = model.encode(piece, state)
                parts.append(frames)
            torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)
    assert whole.shape == (2, 70, config.decoder.width)


def test_the_tower_is_causal_and_forgets_after_its_context(model):
    """A chunk is heard by the next through the stem, and C chunks on through each layer; never back."""
    mel = torch.randn(1, 16, 40 * 8)
    changed = mel.clone()
    changed[:, :, 40 * 3 : 40 * 4] += 1.0
    with torch.no_grad():
        delta = (model.encode(mel)[0] - model.encode(changed)[0]).abs().amax(-1)[0]
    touched = delta.view(8, 10).amax(1) > 1e-6
    assert touched.tolist() == [False] * 3 + [True] * 4 + [False]  # itself, 1 by the stem, C = 2 more


def test_tower_state_has_constant_size(model):
    state, sizes = None, set()
    with torch.no_grad():
        for _ in range(5):
            _, state = model.encode(torch.randn(1, 16, 40), state)
            sizes.add((state.mel.numel(), *(k.numel() for k in state.keys)))
    assert len(sizes) == 1


def _stream(n_chunks: int, timeline: tuple[Reply, ...]) -> Stream:
    noise = np.random.default_rng(n_chunks).normal(size=n_chunks * 6_400).astype(np.float32)
    return Stream(0.1 * noise, timeline, ())


def test_the_two_losses_are_what_the_paper_says(model, tokenizer):
    example = online_example(_stream(4, (Reply(2, "One."),)), tokenizer, NANO)
    batch = collate([example], NANO)
    with torch.no_grad():
        out = model(
            batch.input_ids, mel=batch.mel, labels_stream=batch.labels_stream, labels_lm=batch.labels_lm
        )
        logits = model(batch.input_ids, mel=batch.mel).logits[0, :-1]
    weight = torch.ones(NANO.decoder.vocab)
    weight[OWN_LAYOUT.response] = NANO.response_weight
    lm = F.cross_entropy(logits, batch.labels_lm[0, 1:], ignore_index=IGNORED)
    stream = F.cross_entropy(logits, batch.labels_stream[0, 1:], weight, ignore_index=IGNORED)
    torch.testing.assert_close(out.loss_lm, lm)
    torch.testing.assert_close(out.loss_stream, stream)
    torch.testing.assert_close(out.loss, lm + NANO.stream_weight * stream)


def test_padding_changes_nothing(model, tokenizer):
    long = online_example(_stream(6, (Reply(2, "One."),)), tokenizer, NANO)
    short = online_example(_stream(3, (Reply(1, "Two."),)), tokenizer, NANO)
    with torch.no_grad():
        batch, alone = collate([long, short], NANO), collate([short], NANO)
        together = model(batch.input_ids, mel=batch.mel).logits[1, : len(short.tokens)]
        single = model(alone.input_ids, mel=alone.mel).logits[0]
    torch.testing.assert_close(together, single, atol=1e-5, rtol=1e-5)


def test_offline_frames_stand_where_the_layout_says(model, tokenizer):
    example = offline_example(np.zeros(10_000, np.float32), "A dog.", tokenizer, NANO)
    assert (example.tokens.input_ids == OWN_LAYOUT.frame).sum() == 20 == example.mel.shape[1] // 4
    frames = torch.arange(20.0)[None, :, None].expand(1, 20, 16)
    ids = torch.from_numpy(example.tokens.input_ids)[None]
    with torch.no_grad():
        placed = model.embed(ids, frames)[0][ids[0] == OWN_LAYOUT.frame]
    torch.testing.assert_close(placed, frames[0])


def test_a_saved_folder_comes_back_bit_for_bit(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = AudioInteractionModel.from_pretrained(tmp_path)
    assert again.shape == model.shape
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    head = again.decoder.lm_head.weight
    assert head.data_ptr() == again.decoder.model.embed_tokens.weight.data_ptr()  # still tied


def test_same_seed_same_weights_and_tiny_is_tiny():
    one, two = (AudioInteractionModel.from_preset(NANO, seed=3) for _ in range(2))
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert AudioInteractionModel.from_preset(preset("tiny")).n_parameters() < 10_000_000
    with pytest.raises(ValueError, match="choose one of"):
        preset("huge")


def test_config_survives_json():
    for config in PRESETS.values():
        assert ModelConfig.from_dict(config.to_dict()) == config
