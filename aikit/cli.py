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
from dataclasses import replace
from pathlib import Path

from aikit.bench.command import KINDS, add_kinds


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

    synth = verbs.add_parser("synth", help="make a corpus of streams; the same command resumes")
    synth.add_argument("--out", type=Path, help="folder of the corpus to make, or of the items to export")
    synth.add_argument("--streams", type=int, default=100)
    synth.add_argument("--abilities", nargs="*", help="default: all seven")
    synth.add_argument("--seed", type=int, default=0)
    synth.add_argument("--planner", metavar="URL|local:MODEL", help="a chat model plans; key: AIKIT_CHAT_KEY")
    synth.add_argument("--workers", type=int, default=os.cpu_count(), help="processes; default: all cores")
    synth.add_argument("--check-speech", action="store_true", help="round trip: drop dialogues heard wrongly")
    synth.add_argument("--engine", choices=("plain", "ray"), default="plain", help="ray: many machines")
    others = synth.add_mutually_exclusive_group()
    others.add_argument("--describe", type=Path, metavar="DIR", help="what a corpus holds; draws a figure")
    others.add_argument("--check", type=Path, metavar="DIR", help="is a corpus whole? exit code 1 if not")
    others.add_argument("--export", type=Path, metavar="DIR", help="a corpus as published items, to --out")
    others.add_argument("--items", type=Path, metavar="FILE", help="published items as a corpus, to --out")
    synth.add_argument("--gap", type=float, default=0.0, help="seconds of silence before a turn of --items")
    _real_argument(synth)

    train = verbs.add_parser("train", help="train a model; the same command resumes")
    train.add_argument("--out", type=Path, required=True, help="the run's folder, e.g. runs/mine")
    train.add_argument("--preset", help="default: tiny; mini for --ablate")
    train.add_argument("--stages", help="comma-separated; default: all five")
    train.add_argument("--scale", type=float, default=1.0, help="factor on every stage's steps")
    train.add_argument("--start-from", type=Path, help="begin with the weights of this model folder")
    train.add_argument("--teacher", type=Path, help="learn what this larger model expects, too (distillation)")
    train.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    train.add_argument("--workers", type=int, default=1, help="processes that make data")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--ablate", metavar="KIND", help="instead: one choice changed, measured, as a table")
    train.add_argument("--seeds", type=int, default=2, help="of every setting of --ablate")
    _real_argument(train)

    lora = verbs.add_parser("lora", help="fine-tune any model on a corpus, with small adapters")
    lora.add_argument("--corpus", type=Path, required=True, help="as `aikit synth` makes one")
    lora.add_argument("--out", type=Path, required=True, help="the run's folder")
    _model_argument(lora)
    lora.add_argument("--rank", type=int, default=16)
    lora.add_argument("--epochs", type=int, default=3)
    lora.add_argument("--batch", type=int, default=4, help="streams, over all processes")
    lora.add_argument("--learning-rate", type=float, default=2e-4)
    lora.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    lora.add_argument("--bits", type=int, choices=(8, 4), help="hold the frozen weights in so many")
    lora.add_argument("--merge", action="store_true", help="also write the merged model")
    lora.add_argument("--seed", type=int, default=0)

    evaluate = verbs.add_parser("eval", help="all that the kit says of a model: streams, pairs, segments")
    evaluate.add_argument("--streams", type=int, default=168, help="of each kind; 168 hold 1,000 events")
    evaluate.add_argument("--pairs", type=int, default=60, help="counterfactual ones; 0 = none")
    evaluate.add_argument("--digits", type=int, default=30, help="streams of the unseen speaker (with --real); 0 = none")
    evaluate.add_argument("--counts", type=int, default=60, help="streams in which only counts are asked for; 0 = none")
    evaluate.add_argument("--out", type=Path, help="write the scores here")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--threshold", type=float, help="respond when p(respond) reaches it")
    _real_argument(evaluate)
    _model_argument(evaluate)

    bench = verbs.add_parser("bench", help="score a model")
    kinds = bench.add_subparsers(dest="kind", required=True, metavar="KIND")
    add_kinds(kinds)

    tasks = kinds.add_parser("tasks", help="the seven other benchmarks: ASR, translation, questions")
    tasks.add_argument("--only", nargs="+", help="default: all; a wrong name lists them")
    where = tasks.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=Path, help="folder with TASK.jsonl, .json, .tsv, .csv or TASK/")
    where.add_argument("--hub", action="store_true", help="fetch the data with `datasets`")
    tasks.add_argument("--out", type=Path, required=True, help="answers and scores; the same resumes")
    tasks.add_argument("--judge", help="http(s)://HOST/v1#MODEL, with a key from AIKIT_CHAT_KEY; or local:MODEL")
    tasks.add_argument("--online", action="store_true", help="hear every clip as if it were live")
    tasks.add_argument("--limit", type=int, help="only so many items of each task")
    _model_argument(tasks)

    convert = verbs.add_parser("convert", help="write a model folder in another form, bit for bit")
    convert.add_argument("source", help="folder or hub name: the kit's own, published, or Qwen2.5-Omni")
    convert.add_argument("target", type=Path)
    convert.add_argument("--to", choices=("own", "published", "omni"), default="own")

    profile = verbs.add_parser("profile", help="where the milliseconds go; FIFO against synchronous")
    shape = profile.add_mutually_exclusive_group()
    _model_argument(shape)
    shape.add_argument("--preset", help="instead: these shapes with random weights")
    profile.add_argument("--device", help="cpu, cuda, mps; default: the best one here")
    profile.add_argument("--seconds", type=float, default=60.0, help="of paced audio, in each of two runs")
    profile.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: by device")
    profile.add_argument("--threads", type=int, help="of torch; default: its own choice")
    profile.add_argument("--json", type=Path, metavar="OUT", help="write all numbers here")
    profile.add_argument("--figures", type=Path, metavar="DIR", help="draw Gantt, latencies, roofline here")

    samples = verbs.add_parser("samples", help="make data_samples/ again: scenes, mini benchmark, sums")
    samples.add_argument("--out", type=Path, default=Path("data_samples"))
    samples.add_argument("--seed", type=int, default=0)

    verbs.add_parser("doctor", help="what is here, what is missing, what to do about it")
    return parser


def _model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="a model folder or hub name; default: the shipped one")


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
        extra = {"datasets": "data", "ray": "ray", "bitsandbytes": "quantised"}.get(error.name, "notebooks,demo")
        print(f"aikit: {error.name} is not installed; pip install 'aikit[{extra}]'", file=sys.stderr)
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
    from aikit.bench.command import listener

    events = listener(args).listen(waveform, 16_000, args.instruction, args.threshold)
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


def _synth(args) -> int:
    if args.describe:
        return _describe_corpus(args.describe)
    if args.check:
        return _check_corpus(args.check)
    if args.out is None:
        raise ValueError("give --out DIR, or --describe DIR or --check DIR of a corpus that is there")
    if args.export:
        from aikit.synth.formats import export_items

        print(f"items are in {export_items(args.export, args.out)}")
        return 0
    if args.items:
        from aikit.synth.formats import import_items

        import_items(args.items, args.out, args.gap, args.workers)
    else:
        from aikit.synth.chat import planner_from
        from aikit.synth.corpus import build_corpus
        from aikit.synth.script import Sources

        planner = planner_from(args.planner)  # before the clips: a wrong address should not take seconds
        sources = replace(Sources.with_real(args.real), planner=planner)
        if args.check_speech:
            from aikit.synth.roundtrip import checked_speak

            sources = replace(sources, speak=checked_speak)
        build_corpus(
            args.out, sources, args.streams, args.seed, args.abilities, args.workers, args.engine
        )
    return _say_what_is_there(args.out)


def _say_what_is_there(path: Path) -> int:
    from aikit.synth.describe import describe

    about = describe(path)
    print(f"{about['streams']} streams, {about['hours']:g} h, in {path}; SHA-256 {about['digest']}")
    for note in about["skipped"]:
        print(f"skipped: {note}")
    return 0


def _describe_corpus(path: Path) -> int:
    from rich.console import Console

    from aikit.charts import corpus
    from aikit.synth.describe import FIGURE, facts, table

    streams = facts(path)
    Console(width=max(Console().width, 150)).print(table(streams))  # a narrow terminal wraps it
    corpus(streams).savefig(path / FIGURE)
    print(f"figure: {path / FIGURE}")
    return _say_what_is_there(path)


def _check_corpus(path: Path) -> int:
    from aikit.synth.describe import check_corpus

    for problem in (problems := check_corpus(path)):
        print(problem)
    print(f"{path}: {f'{len(problems)} problems' if problems else 'whole'}")
    return 1 if problems else 0


def _train(args) -> None:
    if args.ablate:
        return _ablate(args)
    from aikit.config import preset
    from aikit.train.loop import TrainConfig, train
    from aikit.train.recipe import stages

    config = TrainConfig(
        args.out, preset(args.preset or "tiny"), stages(args.stages, args.scale), tuple(args.real), args.seed,
        workers=args.workers, precision=args.precision, start_from=args.start_from, teacher=args.teacher,
    )  # fmt: skip
    print(f"the model is in {train(config)}; listen with: aikit listen FILE --model {args.out / 'model'}")


def _ablate(args) -> None:
    from aikit.bench.ablate import markdown, run
    from aikit.config import preset

    if args.real or args.stages or args.start_from or args.teacher:
        raise ValueError(
            "--ablate trains from nothing on the kit's own sounds; leave out --real, --stages, --start-from, --teacher"
        )
    seeds = range(args.seed, args.seed + args.seeds)
    print(markdown(run(args.ablate, args.out, seeds, args.scale, preset(args.preset or "mini"))))
    print(f"scores: {args.out / args.ablate}.json")


def _lora(args) -> None:
    import aikit
    from aikit.model.shards import copy_beside, save_model
    from aikit.stream.assistant import SHIPPED, fetch
    from aikit.synth.corpus import read_corpus
    from aikit.train.loop import process_state
    from aikit.train.lora import LoraConfig, fine_tune, load_adapters, merge, quantise

    state, base = process_state(), fetch(args.model or SHIPPED)
    ai = aikit.load(base, str(state.device))
    if args.bits:
        quantise(ai.model, args.bits)
    config = LoraConfig(
        args.out, args.rank, 2 * args.rank, args.learning_rate, args.epochs, args.batch, args.precision,
        seed=args.seed,
    )  # fmt: skip
    fine_tune(ai.model, ai.tokenizer, read_corpus(args.corpus), config)
    if state.is_main_process:
        print(f"the adapters are in {args.out / 'adapter'}")
    if state.is_main_process and args.merge:  # into the base as it was, not as it was held in memory
        merged = merge(load_adapters(aikit.load(base, "cpu").model, args.out / "adapter"))
        print(f"the model is in {copy_beside(base, save_model(merged, args.out / 'model'))}")


def _eval(args) -> None:
    from aikit.bench.command import listener
    from aikit.bench.evaluate import run

    sizes = (args.streams, args.pairs, args.digits, args.counts)
    run(listener(args), *sizes, args.seed, args.real, args.out, args.threshold)


def _bench(args) -> None:
    if args.kind in KINDS:
        return KINDS[args.kind](args)
    return _tasks(args)


def _tasks(args) -> None:
    from aikit.bench.tasks import TASKS, read_items, run

    names = args.only or list(TASKS)
    for name in names:  # a wrong name or folder should not take the seconds that a model takes
        next(read_items(name, args.data, args.hub), None)
    import aikit
    from aikit.synth.chat import planner_from

    judge = planner_from(args.judge).chat if args.judge else None
    run(aikit.load(args.model), names, args.data, args.out, str(args.model or "shipped"), args.hub, judge,
        args.online, args.limit)  # fmt: skip


def _convert(args) -> None:
    from aikit.model.shards import convert
    from aikit.stream.assistant import fetch

    print(f"written to {convert(fetch(args.source), args.target, args.to)}")


def _profile(args) -> None:
    from aikit.stream import profile

    profile.run(
        args.model, args.preset, args.device, args.dtype, args.seconds, args.threads, args.json, args.figures
    )  # fmt: skip


def _samples(args) -> None:
    from aikit.samples import make_samples

    make_samples(args.out, args.seed)


def _doctor(args) -> int:
    from aikit.doctor import main as examine

    return examine()


VERBS = {
    "tour": _tour, "demo": _demo, "listen": _listen, "synth": _synth, "train": _train, "eval": _eval, "bench": _bench,
    "lora": _lora, "convert": _convert, "profile": _profile, "samples": _samples, "doctor": _doctor,
}  # fmt: skip
