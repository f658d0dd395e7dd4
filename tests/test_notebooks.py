"""Every notebook and every solution has the house's form, runs from top to bottom with FAST = True,
and reports the numbers it should."""

import re

import pytest

nbformat = pytest.importorskip("nbformat")

from conftest import ROOT

from aikit.nb import read_report

# What a notebook must report, as (lowest, highest); all else that it reports must be finite.
EXPECTED = {
    "00_start_here": {
        "decisions": (53, 153),  # a scene is 20 to 60 s
        "reply_due_chunk": (37, 100),  # after the alarm, which begins at 15 s
        "loud_chunks_for_nothing": (1, 70),
        "naive_wrong_frames": (3, 3),
        "stream_max_error": (0, 1e-5),
        "cut_difference": (0, 1e-3),
        "whisper_past_changed": (0.05, 1),
        "our_past_changed": (0, 0),
        "positions_per_s": (32.5, 36),
    },
    "00_start_here_solutions": {
        "chunks_in_a_minute": (150, 150),
        "responses_at_zero": (33, 33),
        "seconds_that_fit": (125.5, 126),
    },
    "01_streaming_data_synthesis": {
        "sound_labels": (60, 200),
        "respond_labels": (28, 100),
        "clean_passed": (0.9, 1),
        "faults_passed": (0, 0.1),
        "tfjp_seconds_before": (3, 6),
        "tfjp_seconds_after": (1, 3),
        "tapes_accepted": (1, 1),
        "scene_events": (3, 15),
        "scene_replies": (1, 14),
        "snr_error_db": (0, 0.01),
        "compose_max_error": (0, 1e-5),
        "sub_tasks": (28, 28),
        "masked_share": (0.8, 0.95),
        "late_raw_ms": (600, 1_500),
        "late_tfjp_ms": (0, 300),
        "random_hazard_share": (0.7, 0.95),
        "random_clash_share": (0.5, 0.95),
        "planned_clashes": (0, 0),
        "kit_contradictions": (0, 0),
    },
    "01_streaming_data_synthesis_solutions": {
        "snr_error_db": (0, 0.01),
        "wer_error": (0, 1e-9),
        "wer_of_voices": (3, 3),
        "good_night_replies": (3, 100),
        "other_replies": (0, 0),
    },
    "02_train_a_tiny_model": {
        "parameters": (411_504, 411_504),
        "loss_difference": (0, 1e-5),
        "overfit_ratio": (0, 0.3),
        "settled_at_weight_3": (0.26, 0.28),
        "interrupted": (1, 1),
        "hear_ratio": (0, 0.3),
        "lm_ratio": (0, 0.75),
        "stream_ratio": (0, 0.2),
        "auc_before": (0.2, 0.8),
        "auc_after": (0.65, 1),
        "balanced_after": (0.55, 1),
        "hidden_share": (0.05, 0.6),
        "decisions_pull": (0.02, 0.9),
    },
    "02_train_a_tiny_model_solutions": {
        "settles_at_weight_3": (0.2727, 0.2728),
        "schedule_at_half": (0.56, 0.58),
        "adapter_share": (0.01, 0.1),
    },
    "03_low_latency_inference": {
        "loop_difference": (0, 1e-4),
        "frames_difference": (0, 1e-4),
        "hidden_difference": (0, 1e-3),
        "split_difference": (0, 1e-4),
        "again_growth": (2, 200),
        "state_growth": (0.2, 4),
        "kv_speedup": (2, 1_000),
        "positions_per_step": (13, 13),
        "drain_over_listen": (0.5, 7),
        "listen_operations": (100, 1_000),
        "nano_bytes_share": (0.005, 0.015),
        "nano_time_share": (0.05, 1),  # launch-bound: far more than its share of the bytes
        "drift": (0, 1e-4),
        "slowdown": (0.3, 3),
        "same_events": (1, 1),
        "chunks_drained": (19, 19),
        "most_drained": (2, 19),
        "late_share_drain": (0.15, 0.15),
        "late_share_one_by_one": (0.38, 0.38),
        "stalls_with_queue": (0, 0.2),
        "stalls_without": (0.2, 1),
        "first_chunk_ratio": (1, 100),
        "resume_ratio": (1.5, 1_000),
    },
    "03_low_latency_inference_solutions": {
        "kv_bytes_an_hour": (718_848_000, 718_848_000),
        "back_after_s": (9.99, 10.01),
        "ring_capacity": (792, 792),
    },
    "05_inside_the_model": {
        "ratio_tower": (0.6, 1.2),
        "ratio_adapter": (0.6, 1.2),
        "ratio_layer_0": (0.6, 1.2),
        "ratio_alone": (0.05, 0.95),
        "package_difference": (0, 1e-4),
        "heads_difference": (0, 1e-4),
        "largest_head_effect": (0, 0.6),
        "largest_head_shift": (0.05, 30),
        "concentration": (0.0625, 0.8),
        "responses_lost": (0, 1),
        "rank_correlation": (0, 1),
        "study_chunks": (160, 160),
        "all_heads_lost": (0.5, 1),
        "attention_newest": (0, 1),
        "chunks": (165, 165),
    },
    "05_inside_the_model_solutions": {
        "centred_ratio_tower": (0.4, 1.2),
        "centred_ratio_alone": (-0.2, 0.95),
        "milder_share": (0, 1),
        "together_over_sum": (0.1, 2),
    },
    "04_proactive_bench": {
        "constant_accuracy": (0.585, 0.586),
        "paper_low": (0.565, 0.58),
        "n_clips": (60, 70),
        "balanced_accuracy": (0.6, 1),
        "published_n": (65, 65),
        "honest_n": (68, 68),
        "p_mcnemar": (0, 0.05),
        "gate_balanced": (0.3, 0.7),
        "scorer_agrees": (0.7, 0.85),
        "useful_replies": (0.2, 1),
        "n_streams": (12, 12),
        "delay_median_s": (-2, 1.2),
        "false_alarms_per_hour": (0, 1_000),
        "streams_balanced": (0.4, 1),
    },
    "04_proactive_bench_solutions": {
        "possible_lowest": (0.531, 0.533),
        "possible_highest": (0.667, 0.669),
    },
    "07_scale_up": {
        "name_difference": (0, 0),
        "pickle_was_run": (0, 0),
        "bits_equal": (1, 1),
        "first_rounded": (2049, 2049),
        "gib_to_listen": (7.5, 7.7),
        "gib_to_train": (55, 70),
        "split_difference": (0, 1e-4),
        "broken_characters": (0, 0),
        "loss_ratio": (0, 0.1),
        "changed_tensors": (0, 0),
        "adapter_share": (0.001, 0.01),
        "auc_before": (0.1, 0.9),
        "auc_after": (0.7, 1),
        "lora_difference": (0, 1e-4),
        "merge_difference": (0, 1e-3),
        "replies": (1, 12),
    },
    "07_scale_up_solutions": {
        "hours_until": (1.8, 2.0),
        "fits_t4": (4, 4),
        "merge_error": (0, 1e-5),
    },
}
LINES, COLUMNS = 25, 76  # of a code cell, at most
CELL_LIMIT_S = 300

BOOKS = sorted(ROOT.glob("notebooks/0*.ipynb"))
SOLUTIONS = sorted(ROOT.glob("notebooks/solutions/*.ipynb"))
EVERY = pytest.mark.parametrize("path", [*BOOKS, *SOLUTIONS], ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert {"00_start_here", "01_streaming_data_synthesis"} <= {path.stem for path in BOOKS}


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_exercises_have_solutions(path):
    source = path.read_text(encoding="utf-8")
    solution = f"solutions/{path.stem}_solutions.ipynb"
    assert (path.parent / solution).exists()
    assert solution in source, "the notebook does not link to its solutions"
    assert source.count("nb.check(") >= 2 and "return None" in source


@EVERY
def test_is_a_clean_file(path):
    book = read(path)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) >= (4, 5)
    ids = [cell.id for cell in book.cells]
    assert len(set(ids)) == len(ids)
    dirty = [cell.id for cell in code_of(book) if cell.outputs or cell.execution_count is not None]
    assert not dirty, f"clear the outputs of {dirty}"
    assert not re.search(r"/(home|root|work|Users)/", path.read_text(encoding="utf-8"))


@EVERY
def test_opens_in_the_fixed_order(path):
    title, install, parameters = read(path).cells[:3]
    assert title.cell_type == "markdown" and title.source.startswith("# ")
    assert f"/blob/main/{path.relative_to(ROOT).as_posix()})" in title.source, "Colab badge"
    if path in BOOKS:
        assert re.search(r"^1\. ", title.source, re.M), "objectives"
        picture = re.search(r"!\[[^\]]+\]\((\.\./docs/figures/[^)]+)\)", title.source)
        assert picture and (path.parent / picture[1]).exists(), "picture (python docs/figures.py)"
    assert "google.colab" in install.source and "git clone" in install.source
    assert not re.search(r"pip install[^\n]*\b(torch|numpy)\b", install.source)
    assert parameters.metadata.get("tags") == ["parameters"]
    assert "FAST = True" in parameters.source and "SEED = 0" in parameters.source


@EVERY
def test_has_one_switch_and_a_report(path):
    cells = code_of(read(path))
    assert sum("parameters" in cell.metadata.get("tags", ()) for cell in cells) == 1
    assert "nb.report(" in cells[-1].source


@EVERY
def test_cells_are_short_and_narrow(path):
    for cell in code_of(read(path)):
        lines = cell.source.split("\n")
        assert len(lines) <= LINES, f"{cell.id} has {len(lines)} lines"
        assert max(map(len, lines)) <= COLUMNS, f"{cell.id}: {max(lines, key=len)}"


@pytest.mark.notebook
@EVERY
def test_runs_and_reports(path, tmp_path, record_property):
    papermill = pytest.importorskip("papermill")
    from aikit.tour import patient_kernel_manager, same_python

    done = tmp_path / path.name
    with same_python():
        book = papermill.execute_notebook(
            path, done, {"FAST": True}, kernel_name="python3", language="python", cwd=path.parent,
            progress_bar=False, execution_timeout=CELL_LIMIT_S,
            kernel_manager_class=patient_kernel_manager(),
        )  # fmt: skip
    record_property("seconds", book.metadata.papermill.duration)
    numbers = read_report(done)
    assert numbers and not [name for name, value in numbers.items() if value is None]
    for name, (low, high) in EXPECTED.get(path.stem, {}).items():
        assert low <= numbers[name] <= high, f"{name} = {numbers[name]}, not in [{low}, {high}]"
    said = done.read_text(encoding="utf-8")
    if path in SOLUTIONS:
        assert "not done yet" not in said, "a solution fails its own check"
    else:
        assert "not done yet" in said, "the stubs are solved, or not checked"
