"""Who runs the work: processes of this machine, or Ray Data on many.

Knows processes and their ends. Does not know what is made. Notebook 01 builds a corpus with it.

Both engines call ``make(i)`` for every i and give the results in order, so that what is written does
not depend on them. A ``make`` should be a frozen dataclass: it travels to every worker once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

Make = Callable[[int], str]
_make: Make | None = None  # of this worker process: sent once, not with every task


def plain(make: Make, ids: Sequence[int], workers: int) -> Iterator[str]:
    """``make(i)`` for every id, in order, in ``workers`` processes.

    Raises
    ------
    ChildProcessError
        If a worker dies. Errors of ``make`` come as they are.
    """
    # a forked worker starts at once and shares what is loaded; elsewhere forks are not safe
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    try:
        with ProcessPoolExecutor(workers, context, _enter, (make,)) as pool:
            yield from pool.map(_work, ids)
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a worker process was killed, perhaps for want of memory: fewer workers need less"
        ) from error


def _enter(make: Make) -> None:
    global _make
    _make = make
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed must not live on."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(i: int) -> str:
    return _make(i)


def on_ray(make: Make, ids: Sequence[int], workers: int) -> Iterator[str]:
    """The same on Ray Data: a local Ray, or the cluster of ``RAY_ADDRESS``, whose nodes share the
    corpus's folder.

    Raises
    ------
    ModuleNotFoundError
        If Ray is not installed.
    ChildProcessError
        If a task fails; the message is the task's.
    """
    import ray.data

    ray.init(
        include_dashboard=False,
        ignore_reinit_error=True,
        log_to_driver=False,
        logging_level="error",
    )
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    made = ray.data.from_items(list(ids), override_num_blocks=min(len(ids), 4 * workers)).map(
        lambda row: {"made": make(int(row["item"]))},
        compute=ray.data.TaskPoolStrategy(size=workers),
    )
    try:
        for row in made.iter_rows():
            yield row["made"]
    except ray.exceptions.RayError as error:
        raise ChildProcessError(str(error).strip().splitlines()[-1]) from error


ENGINES = {"plain": plain, "ray": on_ray}
