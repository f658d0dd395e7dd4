"""The command line: one verb a room, and errors that are one line.

Knows arguments and exit codes (2 = the input was wrong). Does not know how anything is done: every verb
calls one function and loads its room only then.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their arguments."""
    parser = argparse.ArgumentParser("aikit", description="A streaming audio language model to learn from.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    tour = verbs.add_parser("tour", help="run every notebook, write build/tour/index.html")
    tour.add_argument("--out", type=Path, default=Path("build/tour"))
    tour.add_argument("--full", action="store_true", help="FAST=False: hours, not minutes")

    demo = verbs.add_parser("demo", help="open the live microphone page")
    _model_argument(demo)
    demo.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    demo.add_argument("--port", type=int, help="default: the first free one from 7860")
    demo.add_argument("--share", action="store_true", help="make a public link (Gradio's servers)")

    listen = verbs.add_parser("listen", help="listen to a recording as if it were live")
    listen.add_argument("file")
    _model_argument(listen)
    listen.add_argument("--instruction", help="what to do, in words")
    listen.add_argument("--threshold", type=float, help="respond when p(respond) reaches it")
    listen.add_argument("--json", action="store_true", help="one JSON object an event")

    synth = verbs.add_parser("synth", help="make a corpus of streams")
    synth.add_argument("--out", type=Path, required=True)
    synth.add_argument("--streams", type=int, default=100)
    synth.add_argument("--abilities", nargs="*", help="default: all seven")
    synth.add_argument("--seed", type=int, default=0)
    _real_argument(synth)

    train = verbs.add_parser("train", help="train a model; the same command resumes")
    train.add_argument("--out", type=Path, required=True, help="the run's folder, e.g. runs/mine")
    train.add_argument("--preset", default="tiny")
    train.add_argument("--stages", help="comma-separated; default: all five")
    train.add_argument("--scale", type=float, default=1.0, help="factor on every stage's steps")
    train.add_argument("--start-from", type=Path, help="begin with the weights of this model folder")
    train.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    train.add_argument("--workers", type=int, default=1, help="processes that make data")
    train.add_argument("--seed", type=int, default=0)
    _real_argument(train)

    bench = verbs.add_parser("bench", help="score a model")
    kinds = bench.add_subparsers(dest="kind", required=True, metavar="KIND")
    proactive = kinds.add_parser("proactive", help="Proactive-Sound-Bench, or the bundled mini one")
    proactive.add_argument("--manifest", type=Path, help="default: the mini benchmark")
    proactive.add_argument("--root", type=Path, help="folder that the manifest's paths start from")
    proactive.add_argument("--out", type=Path, help="write the scores here, predictions beside them")
    proactive.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    proactive.add_argument("--threshold", type=float, help="respond when p(respond) reaches it")
    _model_argument(proactive)
    streams = kinds.add_parser("streams", help="held-out streams of all abilities")
    streams.add_argument("--streams", type=int, default=200)
    streams.add_argument("--out", type=Path, help="write the scores here")
    streams.add_argument("--seed", type=int, default=0)
    streams.add_argument("--threshold", type=float)
    _real_argument(streams)
    _model_argument(streams)

    samples = verbs.add_parser("samples", help="make data_samples/ again: scenes, mini benchmark, sums")
    samples.add_argument("--out", type=Path, default=Path("data_samples"))
    samples.add_argument("--seed", type=int, default=0)

    verbs.add_parser("doctor", help="what is here, what is missing, what to do about it")
    return parser


def _model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="a model folder; default: the shipped one")


def _real_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--real", nargs="*", default=[], help="folders of ESC-10/50, FSDD, or one per label")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code."""
    args = build_parser().parse_args(argv)
    try:
        return VERBS[args.verb](args) or 0
    except BrokenPipeError:  # the reader, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"aikit: {_one_line(error)}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"aikit: {error.name} is not installed; pip install 'aikit[notebooks,demo]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("aikit: stopped", file=sys.stderr)
        return 130


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split())


def _tour(args) -> int:
    from aikit.tour import run_tour

    return run_tour(args.out, fast=not args.full)


def _demo(args) -> None:
    from aikit.demo import launch

    launch(args.model, args.host, args.port, args.share)


def _listen(args) -> None:
    from aikit.audio import load_audio

    waveform = load_audio(args.file)  # before torch: a wrong path should not take seconds
    import aikit

    events = aikit.load(args.model).listen(waveform, 16_000, args.instruction, args.threshold)
    for event in events:
        if args.json:
            print(json.dumps(event.to_dict(), ensure_ascii=False), flush=True)
        elif event.kind in ("silent", "end"):
            _print_decision(event)


def _print_decision(event) -> None:
    """One line a chunk: time, p(respond) as a bar, and the reply if there is one."""
    bar = "█" * round(event.p_respond * 10)
    text = f"  ▶ {event.text}" if event.kind == "end" else ""
    print(f"{event.time_s:6.1f} s  {event.p_respond:4.2f} {bar:<10}{text}", flush=True)


def _synth(args) -> None:
    from aikit.synth.abilities import Sources
    from aikit.synth.corpus import build_corpus

    build_corpus(args.out, Sources.with_real(args.real), args.streams, args.seed, args.abilities)


def _train(args) -> None:
    from aikit.config import preset
    from aikit.train.loop import TrainConfig, train
    from aikit.train.recipe import stages

    config = TrainConfig(
        args.out, preset(args.preset), stages(args.stages, args.scale), tuple(args.real), args.seed,
        workers=args.workers, precision=args.precision, start_from=args.start_from,
    )  # fmt: skip
    print(f"the model is in {train(config)}; listen with: aikit listen FILE --model {args.out / 'model'}")


def _bench(args) -> None:
    import aikit

    assistant = aikit.load(args.model)
    if args.kind == "proactive":
        from aikit.bench.proactive import run

        run(assistant, args.manifest, args.root, args.out, args.threshold, args.seed)
    else:
        from aikit.bench.streams import run

        run(assistant, args.streams, args.seed, args.real, args.out, args.threshold)


def _samples(args) -> None:
    from aikit.samples import make_samples

    make_samples(args.out, args.seed)


def _doctor(args) -> int:
    from aikit.doctor import main as examine

    return examine()


VERBS = {
    "tour": _tour, "demo": _demo, "listen": _listen, "synth": _synth, "train": _train, "bench": _bench,
    "samples": _samples, "doctor": _doctor,
}  # fmt: skip
