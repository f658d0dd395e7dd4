"""The live page: a microphone, a strip of decisions, and replies (Gradio 6).

Knows the page's parts, its events and its visitors. Does not know how it looks (`page.py`), threads
(`live.py`) nor how a chunk is decided (`session.py`). Nothing imports it. Taught in notebook 06.
Nothing is recorded: a microphone block is deleted as soon as it is read, an upload after ten
minutes; the page asks no other server for anything.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

os.environ.setdefault("GRADIO_RUN_HISTORY", "False")  # else browsers keep what was sent
import gradio as gr
import soundfile

from aikit.audio import AudioError, load_audio
from aikit.live import BLOCK_S, LiveSession, Take
from aikit.page import CSS, HEAD, HEADER, NOTE, ledger_html, message_html, replies_html, strip_html

SCENES = Path(__file__).resolve().parents[1] / "data_samples" / "scenes"
MICROPHONE = "microphone"  # title of its takes; those of recordings begin with "recording"
MAX_FILE_MB, MAX_FILE_MIN = 50, 10
MAX_PAGES, GONE_S = 8, 300  # a page that did not ask for so long has gone


class Pages:
    """The page's events. Each browser tab has its own `LiveSession`, found by its session hash."""

    def __init__(self, assistant):
        self.assistant, self.open, self._lock = assistant, {}, threading.Lock()

    def record(self, instruction: str, threshold: float, request: gr.Request) -> None:
        """Record was pressed."""
        live = self._enter(request)
        live.notice = ""
        live.start(MICROPHONE, instruction, threshold)

    def block(self, path: str | None, request: gr.Request) -> None:
        """A microphone block: read it, delete its file, enqueue it, return."""
        if path is None:
            return
        try:
            samples, rate = soundfile.read(path, dtype="float32")
        except soundfile.LibsndfileError:  # nothing but a header, or less
            samples, rate = [], 1
        Path(path).unlink(missing_ok=True)
        live = self._enter(request)
        if not live.take.title:  # the connection was lost for a while, and the session with it
            live.start(MICROPHONE)
        if live.take.title == MICROPHONE:
            live.put(live.take, samples, rate)

    def stop(self, request: gr.Request) -> None:
        """Stop was pressed: the worker decides on what is left."""
        live = self.open.get(request.session_hash)
        if live is not None and live.take.title == MICROPHONE:
            live.finish(live.take)

    def listen(
        self, path: str, instruction: str, threshold: float, real_time: bool, request: gr.Request
    ) -> None:
        """Listen was pressed: play a recording to the model; returns at its end."""
        live = self._enter(request)
        try:
            waveform, live.notice = load_recording(path), ""
        except (AudioError, OSError) as error:
            live.notice = str(error).replace(os.path.dirname(path or "") + os.sep, "")
            return
        take = live.start(f"recording {Path(path).name}", instruction, threshold)
        live.play(take, waveform, real_time=real_time)

    def reset(self, instruction: str, threshold: float, request: gr.Request) -> None:
        """Forget everything and take over the settings; an open microphone is heard on."""
        live = self._enter(request)
        live.notice = ""
        live.start(MICROPHONE if live.take.title == MICROPHONE else "", instruction, threshold)

    def tick(self, request: gr.Request) -> tuple:
        """Redraw what has changed."""
        live = self.open.get(request.session_hash)
        if live is None:
            return (gr.skip(),) * 4
        live.seen, take = time.monotonic(), live.take
        drawn = [show(take) for show in (strip_html, replies_html, ledger_html)]
        drawn.append(message_html(take.error or live.notice))
        fresh = [new if new != old else gr.skip() for new, old in zip(drawn, live.drawn)]
        live.drawn = drawn
        return tuple(fresh)

    def leave(self, request: gr.Request) -> None:
        """The tab was closed."""
        with self._lock:
            live = self.open.pop(request.session_hash, None)
        if live is not None:
            live.close()

    def close(self) -> None:
        """Stop all workers."""
        while self.open:
            self.open.popitem()[1].close()

    def _enter(self, request: gr.Request) -> LiveSession:
        """The tab's session, made when it is first needed."""
        now, key = time.monotonic(), request.session_hash
        with self._lock:  # two first events of a tab may come at once
            for other, live in list(self.open.items()):
                if now - live.seen > GONE_S and other != key:  # who falls asleep says no goodbye
                    self.open.pop(other).close(0)
            if key not in self.open:
                if len(self.open) >= MAX_PAGES:
                    full = f"{MAX_PAGES} pages listen already; close one."
                    raise gr.Error(full, print_exception=False)
                live = LiveSession(self.assistant)
                live.seen, live.notice, live.drawn = now, "", [None] * 4
                self.open[key] = live
            return self.open[key]


def load_recording(path: str | None):
    """A file that a visitor chose, float32 ``[n]`` at 16 kHz; AudioError when none or too long."""
    if not path:
        raise AudioError("Choose a scene or upload a recording first.")
    try:
        minutes = soundfile.info(path).duration / 60  # a small file can hold days of silence
    except soundfile.LibsndfileError:
        minutes = 0.0  # load_audio says what is wrong
    if minutes > MAX_FILE_MIN:
        raise AudioError(f"This recording takes {minutes:.0f} min; give at most {MAX_FILE_MIN}.")
    return load_audio(path)


def scenes(folder: Path = SCENES) -> dict[str, tuple[str, str]]:
    """Bundled scenes: title -> (path, instruction), from the .json beside each .flac."""
    found = {}
    for path in sorted(folder.glob("*.flac")):
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        title = about.get("title", path.stem).rstrip(".")
        found[title] = str(path), about.get("instruction", "")
    return found


def build(assistant) -> gr.Blocks:
    """The page for an assistant; its ``live_pages`` attribute holds the open sessions.

    Parameters
    ----------
    assistant : of it only ``session(instruction, threshold)`` and ``config.threshold`` are used
    """
    do, bundled, nothing, live = Pages(assistant), scenes(), Take(), {"elem_classes": "live"}
    with gr.Blocks(title="aikit live", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.HTML(HEADER, **live)
        strip = gr.HTML(strip_html(nothing), elem_id="strip", **live)
        message = gr.HTML("", elem_id="message", **live)
        with gr.Row():
            with gr.Column(scale=3):
                replies = gr.HTML(replies_html(nothing), elem_id="replies", **live)
                ledger = gr.HTML(ledger_html(nothing), elem_id="ledger", **live)
            with gr.Column(scale=4):
                with gr.Tab("Microphone"):
                    microphone = gr.Audio(
                        sources=["microphone"], type="filepath", streaming=True, buttons=[],
                        label="Microphone", elem_id="microphone",
                    )  # fmt: skip
                    gr.HTML(NOTE, **live)
                with gr.Tab("Recording"):
                    scene = gr.Dropdown(
                        list(bundled), value=None, label="A bundled scene", elem_id="scene"
                    )
                    recording = gr.Audio(
                        sources=["upload"], type="filepath", editable=False, buttons=[],
                        label="or your own recording", elem_id="recording",
                    )  # fmt: skip
                    real_time = gr.Checkbox(
                        True, label="In real time, with sound", elem_id="real-time"
                    )
                    listen = gr.Button("Listen", variant="primary", elem_id="listen")
                instruction = gr.Textbox(
                    label="Instruction (optional)", elem_id="instruction", max_length=300,
                    placeholder="Listen, and help when help is needed.",
                )  # fmt: skip
                threshold = gr.Slider(
                    0.01, 0.99, assistant.config.threshold, step=0.01, buttons=[],
                    label="Respond when p(respond) reaches", elem_id="threshold",
                )  # fmt: skip
                reset = gr.Button("Reset: forget all, apply these settings", elem_id="reset")

        settings = [instruction, threshold]
        beside = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
        at_once = {**beside, "queue": False}
        microphone.start_recording(do.record, settings, None, **at_once)
        microphone.stream(do.block, [microphone], None, stream_every=BLOCK_S, **beside)
        microphone.stop_recording(do.stop, None, None, **at_once)
        scene.input(bundled.get, [scene], [recording, instruction], **at_once)
        listen.click(
            do.listen, [recording, *settings, real_time], None, trigger_mode="multiple", **beside
        )
        reset.click(do.reset, settings, None, **at_once)
        gr.Timer(BLOCK_S).tick(do.tick, None, [strip, replies, ledger, message], **at_once)
        page.unload(do.leave)
    page.live_pages = do
    return page


def serve(page: gr.Blocks, host="127.0.0.1", port=None, share=False, block=True) -> str:
    """Open a page made by `build`; returns its address: the public one, if it has one."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # none is fetched
    _, local, public = page.launch(
        server_name=host, server_port=port, share=share, prevent_thread_lock=not block,
        inline=False, theme=gr.themes.Base(neutral_hue="slate", **fonts), css=CSS, head=HEAD,
        footer_links=[], max_file_size=f"{MAX_FILE_MB}mb", allowed_paths=[str(SCENES)],
        enable_monitoring=False, quiet=not block,
    )  # fmt: skip
    return public or local


def launch(model: str | Path | None = None, host="127.0.0.1", port=None, share=False) -> None:
    """Load a model folder (None = the shipped one) and serve the page until Ctrl-C."""
    import aikit

    serve(build(aikit.load(model)), host, port, share)
