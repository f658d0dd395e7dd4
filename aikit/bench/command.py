"""The verbs of `aikit bench` around Proactive-Sound-Bench and the look inside.

Knows their arguments and what they print. Does not know how anything is measured; each loads its room
only when it is called (`cli.py` tells the rest).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

SMALL = 50e6  # parameters
SHOWN_PROBLEMS = 10  # on the terminal; --json has all of them


def add_kinds(kinds) -> None:
    """Add the verbs to the sub-parsers of `aikit bench`."""
    proactive = kinds.add_parser("proactive", help="Proactive-Sound-Bench, or the bundled mini one")
    _benchmark(proactive, "for the scores; predictions, tables and figures go beside them")
    proactive.add_argument("--tier", choices=("single", "multiple", "both"), default="both")
    proactive.add_argument("--streams", type=int, default=60, help="of the multiple tier")
    proactive.add_argument("--threshold", type=float, help="respond when p(respond) reaches it")
    _model(proactive)

    tier = kinds.add_parser(
        "tier", help="make a multiple tier: streams of several events, a manifest"
    )
    _benchmark(tier, "folder for the streams and their manifest.jsonl", True)
    tier.add_argument("--streams", type=int, default=60)

    manifest = kinds.add_parser(
        "manifest", help="make a manifest of a folder of recordings, e.g. ESC-10"
    )
    manifest.add_argument("folder", type=Path, help="one sub-folder a label of the ontology")
    manifest.add_argument(
        "--folds", type=int, nargs="*", default=(), help="of ESC's folds only these"
    )
    manifest.add_argument(
        "--out", type=Path, required=True, help="JSONL; paths start from the folder"
    )

    score = kinds.add_parser("score", help="score the predictions of any model")
    score.add_argument(
        "--pred", type=Path, required=True, help="JSONL: id, and _raw_reply or reply"
    )
    score.add_argument(
        "--compat", action="store_true", help="the published scorer's numbers as well"
    )
    _benchmark(score, "for the scores; tables and figures go beside them")

    compare = kinds.add_parser("compare", help="two models on the same clips: more than luck?")
    compare.add_argument("a", type=Path, help="predictions, JSONL")
    compare.add_argument("b", type=Path)
    _benchmark(compare, "for the comparison; a table and a figure go beside it")

    segments = kinds.add_parser("segments", help="one to five clips in a row, online and offline")
    segments.add_argument("--clips", type=int, default=40)
    _benchmark(segments, "for the scores")
    _model(segments)

    inside = kinds.add_parser(
        "inside", help="continuity at chunk boundaries, and the heads that decide"
    )
    inside.add_argument("--streams", type=int, default=3, help="of each ability")
    inside.add_argument("--abilities", nargs="*", help="default: all seven")
    inside.add_argument("--seed", type=int, default=0)
    inside.add_argument("--out", type=Path, help="for the result")
    inside.add_argument("--json", action="store_true", help="print it as JSON")
    _model(inside)


def _model(parser) -> None:
    parser.add_argument("--model", help="a model folder or hub name; default: the shipped one")


def _benchmark(parser, out: str, required: bool = False) -> None:
    parser.add_argument("--manifest", type=Path, help="default: the mini benchmark's")
    parser.add_argument("--root", type=Path, help="folder that the manifest's paths start from")
    parser.add_argument(
        "--answers", type=Path, help="JSONL with standard_answers, if not in the manifest"
    )
    parser.add_argument(
        "--reranker", type=Path, help="folder of a reranker (bge-reranker-v2-m3) for replies"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the bootstrap, the coin and the streams"
    )
    parser.add_argument("--out", type=Path, help=out, required=required)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def listener(args):
    """The model to ask; a small one on one thread, for its steps are too small to be shared."""
    import torch

    import aikit

    assistant = aikit.load(args.model)
    if assistant.model.device.type == "cpu" and assistant.model.n_parameters() < SMALL:
        torch.set_num_threads(1)
    return assistant


def _scorer(args):
    from aikit.bench.usefulness import Reranker

    return Reranker(args.reranker) if args.reranker else None


def _print(report: dict) -> None:
    print(json.dumps(report, ensure_ascii=False, indent=1))


def _tell(problems: list[str]) -> None:
    for text in problems[:SHOWN_PROBLEMS]:
        print(text, file=sys.stderr)
    if len(problems) > SHOWN_PROBLEMS:
        more = len(problems) - SHOWN_PROBLEMS
        print(f"and {more} more problems; --json lists them all", file=sys.stderr)


# --- what they do ----------------------------------------------------------------------------------
def proactive(args) -> None:
    """Let a model hear a benchmark."""
    from aikit.bench.proactive import run

    report = run(
        listener(args), args.manifest, args.root, args.out, args.threshold, args.seed,
        args.tier, args.streams, args.answers, _scorer(args), quiet=args.json,
    )  # fmt: skip
    if args.json:
        _print(report)


def tier(args) -> None:
    """Make the streams of a multiple tier."""
    from aikit.bench.manifest import read_manifest
    from aikit.bench.proactive import MINI_BENCH
    from aikit.bench.tiers import make_tier

    cases = read_manifest(args.manifest or MINI_BENCH, args.root, answers=args.answers)
    made = make_tier(cases, args.out, args.streams, args.seed)
    print(f"{len(made)} streams: aikit bench proactive --manifest {args.out / 'manifest.jsonl'}")


def manifest(args) -> None:
    """Write a manifest of labelled recordings."""
    from aikit.bench.manifest import write_manifest
    from aikit.bench.recordings import recording_cases

    cases = recording_cases(args.folder, args.folds)
    write_manifest(args.out, cases, args.folder)
    n = sum(case.decision == "RESPOND" for case in cases)
    print(f"{len(cases)} clips, {n} to respond to: "
          f"aikit bench proactive --manifest {args.out} --root {args.folder}")  # fmt: skip


def score(args) -> None:
    """Score a predictions file."""
    from aikit.bench.proactive import score_file
    from aikit.bench.report import show, write_report

    report = score_file(
        args.pred, args.manifest, args.root, args.answers, args.seed, _scorer(args), args.compat
    )
    if args.out:
        write_report(args.out, report)
    if args.json:
        return _print(report)
    _tell(report["problems"])
    show(report)
    print(report["difference"]["text"])
    if args.compat:
        overall, due = (
            report["published"]["overall"],
            report["published"]["ground_truth_respond_accuracy"],
        )
        print(f"as published: {overall['correct_samples']} of {overall['total_samples']} = "
              f"{overall['accuracy']:.4f}; of those to respond to {due:.4f}")  # fmt: skip


def compare(args) -> None:
    """Compare two predictions files."""
    from aikit.bench.compare import compare_files, write_comparison
    from aikit.bench.compare import markdown as table

    report = compare_files(args.a, args.b, args.manifest, args.seed)
    if args.out:
        write_comparison(args.out, report)
    if args.json:
        return _print(report)
    _tell(report["problems"])
    print(table(report))


def segments(args) -> None:
    """Run the stability test of the paper."""
    from aikit.bench.report import write_json
    from aikit.bench.segments import run, show

    report = run(
        listener(args),
        args.manifest,
        args.root,
        args.answers,
        args.clips,
        args.seed,
        _scorer(args),
    )
    if args.out:
        write_json(args.out, report)
    _print(report) if args.json else show(report)


def inside(args) -> None:
    """Look inside a model."""
    from aikit.bench.heads import show, study
    from aikit.bench.report import write_json
    from aikit.synth.abilities import ABILITIES

    report = study(listener(args), args.abilities or tuple(ABILITIES), args.streams, args.seed)
    if args.out:
        write_json(args.out, report)
    _print(report) if args.json else show(report)


KINDS = {
    "proactive": proactive, "tier": tier, "manifest": manifest, "score": score, "compare": compare,
    "segments": segments, "inside": inside,
}  # fmt: skip
