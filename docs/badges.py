"""Write the repository's address, from pyproject.toml, wherever a reader clicks or installs.

    python docs/badges.py            rewrite the README and the notebooks
    python docs/badges.py --check    change nothing; exit 1 and name the files that differ

It rewrites the Colab badge links and the addresses after `git+` and `git clone`. A fork changes
[project.urls] Repository and runs this once. Only the standard library is needed.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(
    r"(?P<before>https://colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+"
    r"(?P<after>/blob/main/notebooks/[\w./-]+\.ipynb)"
)
INSTALL = re.compile(
    r"(?P<before>(?:git\+|git clone (?:--?[\w-]+(?:[= ]\d+)? )*)https://github\.com/)"
    r"[\w.-]+/[\w.-]+?(?P<after>\.git\b|(?=[\s\"'@)\\]|$))"
)


def rewrite(text: str, owner_and_name: str) -> str:
    """Replace the owner and name in every link of the two kinds; all else stays as it is."""
    for pattern in (LINK, INSTALL):
        text = pattern.sub(rf"\g<before>{owner_and_name}\g<after>", text)
    return text


def main(root: Path = ROOT, check: bool = False) -> int:
    """Rewrite or check README.md and notebooks/**/*.ipynb below `root`; return an exit code."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    owner_and_name = "/".join(project["urls"]["Repository"].rstrip("/").split("/")[-2:])
    stale = []
    for path in [root / "README.md", *sorted(root.glob("notebooks/**/*.ipynb"))]:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        new = rewrite(text, owner_and_name)
        if new != text:
            stale.append(path.relative_to(root))
            if not check:
                path.write_text(new, encoding="utf-8")
    verb = "to be rewritten (python docs/badges.py)" if check else "rewritten"
    print(f"{owner_and_name}: {len(stale)} files {verb}", *stale, sep="\n  ")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
