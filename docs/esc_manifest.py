"""The manifest of ESC-10's fold 4 as a benchmark: `python docs/esc_manifest.py ESC-10 OUT.jsonl`.

What a clip is called, where it belongs and whether it deserves a reply, the ontology says; fold 4 is never trained on.
Then: `aikit bench proactive --manifest OUT.jsonl --root ESC-10`.
"""

import argparse
from pathlib import Path

from aikit.bench.manifest import Case, write_manifest
from aikit.synth.clips import ESC_NAME, esc_label
from aikit.synth.ontology import ontology

DECISION = {"respond": "RESPOND", "ignore": "IGNORE"}
FOLD = "4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="ESC-10, one folder a class")
    parser.add_argument("out", type=Path, help="JSONL")
    arguments = parser.parse_args()
    cases = []
    for file in sorted(arguments.folder.rglob("*")):
        match = ESC_NAME.match(file.name)
        if match and match["fold"] == FOLD:
            sound = ontology()[esc_label(file.parent.name)]
            cases.append(Case(file.stem, file, DECISION[sound.policy], sound.domain, sound.sub_domain, sound.name,
                              sound.replies))  # fmt: skip
    if not cases:
        parser.error(f"{arguments.folder} holds no clip of fold {FOLD}, such as '001 - Dog bark/4-182395-A.ogg'")
    write_manifest(arguments.out, cases, arguments.folder)
    print(f"{len(cases)} clips: {arguments.out}")


if __name__ == "__main__":
    main()
