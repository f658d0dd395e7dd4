"""How far sound classes alone take a listener, and how far the rules do: no audio, no model.

    python docs/judgement.py [--streams 1000] [--held-out] [--corpus DIR]

Prints the best trigger accuracy of any classifier of clips (it knows every event's true class and has the best
fixed decision for each), that of the kit's own rules, and how many events an instruction or the context decides:
for the default mix of sub-tasks, and for a corpus that has as many streams of every ability.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

from aikit.synth.abilities import ABILITIES, outline
from aikit.synth.rules import judgement, turns
from aikit.synth.script import Sources


def main() -> None:
    """Read the arguments, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=1000, help="streams of each mix")
    parser.add_argument(
        "--held-out", action="store_true", help="held-out sounds, voices, combinations"
    )
    parser.add_argument("--corpus", help="judge this corpus instead of new streams")
    args = parser.parse_args()
    if args.corpus:
        from aikit.synth.corpus import read_corpus

        return report("corpus", [stream for stream in read_corpus(args.corpus)])
    sources, n = Sources.embedded(args.held_out, variants=8), range(args.streams)
    report("default mix", [outline(sources, seed) for seed in n])
    names = list(ABILITIES)
    report("abilities alike", [outline(sources, seed, names[seed % len(names)]) for seed in n])


def report(title: str, streams: list) -> None:
    """Print the shares for all streams, and for each ability by itself."""
    groups = defaultdict(list)
    for stream in streams:
        heard = turns(stream)
        groups[title].append(heard)
        groups[stream.ability].append(heard)
    print(f"{'':34}{'events':>8}{'classifier':>12}{'rules':>8}{'ruled':>8}{'turned':>8}")
    for name, heard in groups.items():
        s = judgement(heard)
        shares = "".join(
            f"{s[k]:{w}.1%}"
            for k, w in (("classifier", 12), ("rules", 8), ("ruled", 8), ("turned", 8))
        )
        print(f"{name:34}{s['events']:8}{shares}")


if __name__ == "__main__":
    main()
