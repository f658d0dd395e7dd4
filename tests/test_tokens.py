"""Layouts and label rows: every position carries at most one of the two targets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aikit.synth.abilities import all_texts
from aikit.tokens import (
    IGNORED,
    OWN_LAYOUT,
    PUBLISHED_LAYOUT,
    SPECIAL_TOKENS,
    Reply,
    TextStream,
    Tokenizer,
    offline_sequence,
    online_sequence,
)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(all_texts())


def test_the_vocabulary_is_small_and_the_controls_come_first(tokenizer):
    assert 1_000 <= tokenizer.size <= 2_000
    assert [tokenizer.token(i) for i in range(len(SPECIAL_TOKENS))] == list(SPECIAL_TOKENS)
    layout = OWN_LAYOUT
    named = [layout.assistant, layout.silent, layout.response, layout.eos, layout.frame]
    assert [SPECIAL_TOKENS[i] for i in named] == [
        "<assistant>", "<silent>", "<response>", "<eos>", "<frame>"]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(id_ >= len(SPECIAL_TOKENS) for id_ in ids)  # text is never a control token


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="añ早上好 🎧é.", max_size=30))
def test_streamed_text_never_shows_half_a_character(tokenizer, text):
    stream = TextStream(tokenizer)
    pieces = [stream.push(id_) for id_ in tokenizer.encode(text)] + [stream.flush()]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_online_layout_word_for_word(tokenizer):
    out = online_sequence(tokenizer, [Reply(1, "One.")], 3, "Count.")
    names = [tokenizer.token(i) for i in out.input_ids]
    block = ["<audio>", *["<frame>"] * 10, "<assistant>"]
    said = [tokenizer.token(i) for i in tokenizer.encode("One.")]
    asked = [tokenizer.token(i) for i in tokenizer.encode("Count.")]
    expected = ["<online>", "<system>", *asked, "<eos>"]
    expected += [*block, "<silent>", *block, "<response>", *said, "<eos>", *block, "<silent>"]
    assert names == expected


def test_label_rows_are_disjoint_and_cover_only_what_the_model_says(tokenizer):
    out = online_sequence(tokenizer, [Reply(0, "Hello."), Reply(2, "Two.")], 4)
    both = (out.labels_stream != IGNORED) & (out.labels_lm != IGNORED)
    assert not both.any()
    controls = out.labels_stream[out.labels_stream != IGNORED]
    assert controls.tolist() == [OWN_LAYOUT.response, OWN_LAYOUT.silent] * 2
    spoken = tokenizer.encode("Hello.") + [OWN_LAYOUT.eos] + tokenizer.encode("Two.")
    assert out.labels_lm[out.labels_lm != IGNORED].tolist() == [*spoken, OWN_LAYOUT.eos]
    said = out.labels_lm != IGNORED
    assert (out.input_ids[said] == out.labels_lm[said]).all()


def test_no_reply_is_lost(tokenizer):
    joined = online_sequence(tokenizer, [Reply(1, "One."), Reply(1, "Two.")], 2)
    kept = joined.labels_lm[joined.labels_lm != IGNORED]
    assert tokenizer.decode(kept) == "One. Two."
    with pytest.raises(ValueError, match="outside the stream"):
        online_sequence(tokenizer, [Reply(5, "late")], 5)


def test_offline_layout(tokenizer):
    out = offline_sequence(tokenizer, 20, "A dog.", "What is it?", "Answer.")
    names = [tokenizer.token(i) for i in out.input_ids]
    assert names[:2] == ["<offline>", "<system>"] and names.count("<frame>") == 20
    assert names.index("</audio>") < names.index("<user>") < names.index("<assistant>")
    assert tokenizer.decode(out.labels_lm[out.labels_lm != IGNORED]) == "A dog."
    asked = offline_sequence(tokenizer, 0, None, "What is it?")
    assert asked.input_ids[-1] == OWN_LAYOUT.assistant and (asked.labels_lm == IGNORED).all()


def test_published_layout_has_the_published_ids():
    layout = PUBLISHED_LAYOUT
    assert layout.prefix([5, 6])[:5] == [151609, 151611, 151644, 151644, 5]
    assert layout.block(10) == [151647, *[151608] * 10, 151602]
    assert layout.emotion_ids("urgent") == [151619] and layout.emotion_ids("??") == [151618]
    assert {151605, 151643, 151644} <= layout.specials
