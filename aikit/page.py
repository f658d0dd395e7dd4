"""How the live page looks: its style, what it asks of the browser, and takes as HTML.

Knows HTML. Does not know Gradio (`demo.py`) nor threads (`live.py`). Taught in notebook 06,
which shows the same strips. The functions' HTML belongs into an element of class
"live", with the style sheet.
"""

from __future__ import annotations

from html import escape

from aikit.live import BLOCK_S, Take

STRIP_CHUNKS = 75  # 30 s

CSS = """
.gradio-container {max-width: 1040px !important; margin: auto !important}
.live {--quiet: #8b95a5; --speak: #d55e00; font-variant-numeric: tabular-nums}
.live h1 {font-size: 1.35rem; margin: .6rem 0 0} .live p {margin: .2rem 0}
.live h2 {font-size: .95rem; margin: 0 0 .3rem} .live .dim {opacity: .75; font-size: .85rem}
.live .row {display: flex; justify-content: space-between; gap: 1rem}
.live .row > :first-child, .live .row > :last-child {white-space: nowrap}
.live b {font-weight: 600} .live .respond, .live .alarm {color: var(--speak); fill: var(--speak)}
.live .alarm {font-weight: 600; opacity: 1} .live rect.silent {fill: var(--quiet)}
.live svg {width: 100%; height: 84px; display: block; border-radius: 6px; background: #8881}
.live line {stroke: currentColor; stroke-dasharray: 4 3; vector-effect: non-scaling-stroke}
.live i {display: inline-block; width: .7em; height: .7em; margin: 0 .3em 0 .9em}
.live ol {list-style: none; margin: 0; padding: 0; max-height: 24rem; overflow: auto}
.live li {display: grid; grid-template-columns: 4.5rem 1fr; padding: .4rem 0}
.live li {border-bottom: 1px solid #8883}
"""

# Echo cancellation and noise suppression remove the very alarms that the model must hear, and gain
# control their level. gr.Audio has no option for that, so the browser's own function is replaced.
HEAD = """<script>(() => {
  const find = selector => document.querySelector(selector);
  const say = (id, text) => { find(id).textContent = text; };
  const why = {
    NotAllowedError: "The microphone was denied. Allow it beside the address bar, press Record.",
    NotFoundError: "No microphone was found. Plug one in, or choose a recording."};
  const raw = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
  const devices = navigator.mediaDevices, ask = devices?.getUserMedia.bind(devices);
  if (ask) devices.getUserMedia = async wanted => {
    try {
      const audio = {...(wanted.audio === true ? {} : wanted.audio), ...raw};
      const stream = await ask({...wanted, audio}), is = stream.getAudioTracks()[0].getSettings();
      const state = name => ({true: "ON", false: "off"})[is[name]] ?? "unknown";
      say("#microphone-settings", `Echo cancellation ${state("echoCancellation")}, noise ` +
        `suppression ${state("noiseSuppression")}, gain control ${state("autoGainControl")}.`);
      say("#microphone-error", "");
      return stream;
    } catch (error) {
      say("#microphone-error", why[error.name] ?? `No microphone: ${error.message}`);
      throw error;
    }
  };
  document.addEventListener("click", ({target}) => {  // the player follows Listen and Reset
    if (!ask && target.closest("#microphone"))
      say("#microphone-error", "Browsers give a microphone to https pages and localhost only.");
    const listen = target.closest("#listen"), player = find("#recording .play-pause-button");
    if (listen) find("#microphone .stop-button")?.click();
    const plays = /pause/i.test(player?.ariaLabel);
    if (listen ? !plays && find("#real-time input").checked : plays && target.closest("#reset"))
      player?.click();
  });
})();</script>"""

HEADER = """<h1>aikit live</h1><p class="dim">An assistant that hears all the time and decides every
400 ms whether to speak. Nothing is recorded.</p>"""
NOTE = """<p class="dim" id="microphone-settings">The browser is asked to switch off echo
cancellation, noise suppression and gain control: they remove alarms.</p>
<p class="alarm" id="microphone-error" role="alert"></p>"""


def strip_html(take: Take, n_chunks: int = STRIP_CHUNKS) -> str:
    """The newest decisions as bars of p(respond): fills from the left, then moves along."""
    shown = list(take.decisions)[-n_chunks:]
    first_s, now, kind = 0.0, "nothing heard yet", ""
    if shown:
        first_s, last = shown[0].time_s - BLOCK_S, shown[-1]
        kind = last.kind
        now = f"{last.time_s:.1f} s · {kind} · p(respond) {last.p_respond:.2f}"
    bars = "".join(
        f'<rect class="{event.kind}" x="{x}.1" y="{100 - height:.1f}" width="0.8" '
        f'height="{height:.1f}"><title>{event.time_s:.1f} s: {event.p_respond:.2f}</title></rect>'
        for x, event in enumerate(shown)
        for height in [max(3.0, 100 * event.p_respond)]
    )
    key = '<i style="background: var(--{})"></i>{}'
    keys = key.format("quiet", "silent") + key.format("speak", "respond")
    if take.threshold is not None:
        y = round(100 - 100 * take.threshold)
        bars += f'<line x1="0" x2="{n_chunks}" y1="{y}" y2="{y}"/>'
        keys += f" · dashed: threshold {take.threshold:.2f}"
    n_replies = sum(event.kind == "respond" for event in shown)
    return (
        f'<div class="row"><b class="{kind}">{now}</b>'
        f'<span class="dim">{escape(take.title)} {take.state}</span></div>'
        f'<svg role="img" aria-label="{n_replies} replies in the last {len(shown)} chunks; {now}" '
        f'viewBox="0 0 {n_chunks} 100" preserveAspectRatio="none">{bars}</svg>'
        f'<div class="row dim"><span>{first_s:.1f} s</span><span>{keys}</span>'
        f"<span>{first_s + n_chunks * BLOCK_S:.1f} s</span></div>"
    )


def replies_html(take: Take) -> str:
    """Replies with the audio time of their decision, the newest first."""
    rows = [("…", take.speaking)] if take.speaking else []
    rows += [(f"{event.time_s:.1f} s", event.text) for event in reversed(list(take.replies))]
    line = "<li><time>{}</time><span>{}</span></li>"
    items = "".join(line.format(time, escape(text)) for time, text in rows)
    empty = "" if rows else '<p class="dim">None so far: silence is a decision, too.</p>'
    return f'<h2>Replies</h2><ol aria-live="polite">{items}</ol>{empty}'


def ledger_html(take: Take) -> str:
    """Where every second of audio went; what was lost stands out."""
    book = take.ledger
    rows = [
        ("received", f"{book.received_s:.1f} s", False),
        ("lost by the browser", f"{book.missing_s:.1f} s", book.missing_s >= 1),
        ("dropped, queue full", f"{book.dropped_s:.1f} s", book.dropped_s > 0),
        ("late blocks merged", book.merged, False),
        ("blocks refused", book.refused, book.refused > 0),
        ("in the queue", f"{book.waiting_s:.1f} s (peak {book.peak_s:.1f})", book.waiting_s > 2),
        ("model busy", f"{100 * book.model_s / max(book.heard_s, BLOCK_S):.0f} %", False),
    ]
    line = '<div class="row dim {}"><span>{}</span><span>{}</span></div>'
    return "<h2>Ledger</h2>" + "".join(
        line.format("alarm" if bad else "", name, value) for name, value, bad in rows
    )


def message_html(text: str) -> str:
    """A line that says what went wrong and what to do."""
    return f'<p class="alarm" role="alert">{escape(text)}</p>' if text else ""
