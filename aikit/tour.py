"""Run every notebook in order and leave something to look at: `aikit tour`, `make tour`.

It knows papermill, nbconvert and what `aikit.nb.report` leaves in an output; it does not know what
a notebook teaches. In `out` it writes NAME.ipynb and NAME.html for each notebook, index.html with
the first picture and the numbers of each, and report.json with every number and time.
"""

import html
import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty

from aikit.nb import read_report

ROOT = Path(__file__).resolve().parent.parent
CELL_LIMIT_S = 900  # a cell that takes longer is stuck

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>aikit tour</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: auto; padding: 1rem }}
main {{ display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)) }}
article {{ border: 1px solid #ccc; border-radius: 8px; padding: 1rem; overflow: auto }}
img {{ width: 100% }} td + td {{ text-align: right; padding-left: 1rem }} .failed {{ color: #b00 }}
</style><h1>aikit tour</h1><p>{summary}</p><main>{cards}</main></html>
"""


@dataclass
class Visit:
    """One executed notebook: what it took, what it reported, and why it stopped, if it did."""

    name: str
    seconds: float = 0.0
    numbers: dict = field(default_factory=dict)
    picture: str = ""  # the first one, PNG in base64
    error: str | None = None  # the cell and the last lines of its traceback


def run_tour(
    out: str | Path = "build/tour",
    notebooks: Iterable[str | Path] | None = None,
    fast: bool = True,
) -> int:
    """Run notebooks through papermill, one after the other; a failed one stops no other.

    Parameters
    ----------
    out : folder for the results, made when missing
    notebooks : paths; by default notebooks/0*.ipynb of this clone, in order of their names
    fast : the `FAST` parameter of every notebook

    Returns
    -------
    0 if all ran, 1 if any failed: an exit code

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no notebook to run, or the results would overwrite it.
    """
    from rich.console import Console

    out, console = Path(out).resolve(), Console()
    paths = [Path(path).resolve() for path in notebooks or sorted(ROOT.glob("notebooks/0*.ipynb"))]
    if not paths:
        raise FileNotFoundError(f"no 0*.ipynb in {ROOT / 'notebooks'}; run the tour in a clone")
    if out in {path.parent for path in paths}:
        raise ValueError(f"{out} holds the notebooks themselves; name another folder for `out`")
    out.mkdir(parents=True, exist_ok=True)
    visits = []
    with same_python():
        for i, path in enumerate(paths, 1):
            console.print(f"[bold]{i}/{len(paths)} {path.stem}")
            visits.append(_visit(path, out, fast))
            console.print(_verdict(visits[-1]), markup=False, highlight=False)
    _write_report(visits, out, fast)
    console.print(_table(visits), f"Open {out / 'index.html'}", soft_wrap=True)
    return int(any(visit.error for visit in visits))


@contextmanager
def same_python() -> Iterator[None]:
    """Make "python3" mean this very interpreter, whatever kernels the user has registered.

    Jupyter looks at JUPYTER_PATH first, so a kernel description there outranks a "python3" in the
    home folder that may point to another environment, without aikit or with an older one.
    """
    from ipykernel.kernelspec import get_kernel_dict  # its argv begins with sys.executable

    before = os.environ.get("JUPYTER_PATH")
    with tempfile.TemporaryDirectory() as folder:
        kernel = Path(folder, "kernels", "python3")
        kernel.mkdir(parents=True)
        # a shell's MPLBACKEND=agg would leave the executed notebooks without pictures
        env = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
        # its warning on unencrypted ports would stand between the progress lines; they are local
        spec = get_kernel_dict(extra_arguments=["--log-level=ERROR"])
        (kernel / "kernel.json").write_text(json.dumps({**spec, "env": env}))
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before]))
        try:
            yield
        finally:
            os.environ.pop("JUPYTER_PATH")
            if before is not None:
                os.environ["JUPYTER_PATH"] = before


def patient_kernel_manager() -> type:
    """A kernel manager whose client looks again every second whether a reply has come.

    nbclient answers widgets on the same socket on which it waits for replies, and now and then the wake-up for
    a reply is lost (https://github.com/jupyter/nbclient/issues/312): a cell that has long ended seems stuck.
    """
    from jupyter_client import AsyncKernelManager
    from jupyter_client.asynchronous.client import AsyncKernelClient, AsyncZMQSocketChannel
    from traitlets import Type, default

    class Channel(AsyncZMQSocketChannel):
        async def get_msg(self, timeout: float | None = None) -> dict:
            end = math.inf if timeout is None else time.monotonic() + timeout
            while True:
                left = max(0.0, end - time.monotonic())
                with suppress(Empty):
                    return await super().get_msg(min(1.0, left))
                if not left:
                    raise Empty

    class Client(AsyncKernelClient):
        shell_channel_class = Type(Channel)

    class Manager(AsyncKernelManager):
        @default("client_factory")
        def _client_factory_default(self) -> type:
            return Client

    return Manager


def _visit(path: Path, out: Path, fast: bool) -> Visit:
    import papermill

    visit, start, target = Visit(path.stem), time.perf_counter(), out / path.name
    target.unlink(missing_ok=True)  # an older run must not be taken for this one
    try:
        papermill.execute_notebook(
            path,
            target,
            parameters={"FAST": fast},
            kernel_name="python3",
            language="python",  # the notebooks may carry no metadata at all
            cwd=path.parent,  # as in Jupyter: relative paths start at the notebook
            progress_bar={"desc": "  cells", "leave": False, "disable": None},  # none in a log file
            execution_timeout=CELL_LIMIT_S,
            kernel_manager_class=patient_kernel_manager(),
        )
    except Exception as error:  # one notebook's failure, of any kind, must not end the tour
        visit.error = _explain(error, target)
    visit.seconds = round(time.perf_counter() - start, 1)
    if target.exists():
        visit.numbers = read_report(target)
        visit.picture = _first_picture(target)
        _write_html(target, path.parent)
    return visit


def _explain(error: Exception, executed: Path, lines: int = 6) -> str:
    """Say in which cell it stopped, and the last lines of what was raised there."""
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"] if executed.exists() else []
    started = [c for c in cells if c["metadata"].get("papermill", {}).get("start_time")]
    stopped = [c for c in started if c["cell_type"] == "code"][-1:]  # papermill runs no further
    where = [f"in cell In [{c['execution_count'] or '*'}]: {_first_line(c)}" for c in stopped]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error) or repr(error)).strip().splitlines()
    return "\n".join([*where, *(line for line in plain[-lines:] if line.strip(" -"))])


def _first_line(cell: dict) -> str:
    return "".join(cell["source"]).strip().split("\n")[0]


def _verdict(visit: Visit) -> str:
    if not visit.error:
        return f"  ok, {visit.seconds:.0f} s, {len(visit.numbers)} numbers"
    return "  FAILED " + visit.error.replace("\n", "\n    ")


def _first_picture(executed: Path) -> str:
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return next(("".join(data["image/png"]) for data in outputs if "image/png" in data), "")


def _write_html(executed: Path, source_folder: Path) -> None:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(embed_images=True)  # figures of markdown cells: one file to pass on
    where = {"metadata": {"path": str(source_folder), "name": executed.stem}}
    with executed.open(encoding="utf-8") as file:
        page, _ = exporter.from_file(file, resources=where)
    executed.with_suffix(".html").write_text(page, encoding="utf-8")


def _write_report(visits: list[Visit], out: Path, fast: bool) -> None:
    seconds = round(sum(visit.seconds for visit in visits), 1)
    report = {"fast": fast, "python": sys.version.split()[0], "seconds": seconds, "notebooks": {}}
    for visit in visits:
        kept = {"seconds": visit.seconds, "error": visit.error, "numbers": visit.numbers}
        report["notebooks"][visit.name] = kept
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    (out / "report.json").write_text(text, encoding="utf-8")
    summary = f"{len(visits)} notebooks in {seconds:.0f} s; <a href=report.json>all numbers</a>"
    page = PAGE.format(summary=summary, cards="".join(map(_card, visits)))
    (out / "index.html").write_text(page, encoding="utf-8")


def _card(visit: Visit) -> str:
    rows = "".join(f"<tr><td>{html.escape(k)}<td>{_shown(v)}" for k, v in visit.numbers.items())
    image = f'<img alt="its first figure" src="data:image/png;base64,{visit.picture}">'
    error = f'<pre class="failed">{html.escape(visit.error)}</pre>' if visit.error else ""
    return f"""<article><h2><a href="{visit.name}.html">{visit.name}</a></h2>
{image if visit.picture else ""}<p>{visit.seconds} s</p>{error}<table>{rows}</table></article>
"""


def _shown(value) -> str:
    return html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def _table(visits: list[Visit]):
    from rich.table import Table

    table = Table("notebook", "", "seconds", "numbers", title="aikit tour")
    for visit in visits:
        numbers = ", ".join(f"{name} {_shown(value)}" for name, value in visit.numbers.items())
        mark = "[red]failed" if visit.error else "[green]ok"
        table.add_row(visit.name, mark, f"{visit.seconds:.1f}", numbers)
    return table
