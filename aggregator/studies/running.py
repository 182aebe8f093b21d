"""Where the cases of a study are worked out: here, on the cores of this machine, or on a Dask cluster.

A task is a few cases that share their traces. Its results depend on the cases alone, so that they are the same bit for
bit wherever and beside whatever it ran; they are written down as they come, and a study that was stopped goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import orjson

from aggregator.compiling import ensure
from aggregator.studies.plan import Case, Study, StudyError

DONE: Final = "cases.jsonl"
# Pool cases that read their traces together; more would take a machine longer than others wait.
TOGETHER: Final = 64

Result = dict[str, Any]
Progress = Callable[[int, int], bool]
"""Told how many cases are done, of how many; False stops the study."""
Batch = tuple[Case, ...]


def run(
    study: Study, out: Path | None = None, *, resume: bool = False, workers: int = 1, scheduler: str | None = None,
    progress: Progress = lambda *_: True,
) -> list[Result] | None:  # fmt: skip
    """The result of every case, in their order; None if stopped.

    out       : folder in which what is done is kept; resume goes on from there
    workers   : processes on this machine
    scheduler : address of a Dask scheduler, in place of them

    Raises StudyError, TraceError, ProductError, whichever comes first.
    """
    done = _done(study, out) if resume and out is not None else {}
    file = None if out is None else _open(out, resume)
    try:
        left = [case for case in study.cases if case.digest not in done]
        if not progress(len(study.cases) - len(left), len(study.cases)):
            return None
        with _results(batches(left), workers, scheduler) as results:
            for batch, found in results:
                for case, result in zip(batch, found, strict=True):
                    done[case.digest] = result
                    if file is not None:
                        file.write(orjson.dumps([case.digest, result]) + b"\n")
                if file is not None:
                    file.flush()
                if not progress(len(done), len(study.cases)):
                    return None
    finally:
        if file is not None:
            file.close()
    return [done[case.digest] for case in study.cases]


def batches(cases: Sequence[Case]) -> list[Batch]:
    """Tasks: pool cases of the same traces together, and every other case by itself."""
    tasks: list[list[Case]] = []
    for case in cases:
        last = tasks[-1] if tasks else []
        if last and case.kind == "pool" and len(last) < TOGETHER and _alike(last[0], case):
            last.append(case)
        else:
            tasks.append([case])
    return [tuple(task) for task in tasks]


def _alike(a: Case, b: Case) -> bool:
    return a._replace(number=0, values=()) == b._replace(number=0, values=())


def work(batch: Batch, workers: int = 1) -> list[Result]:
    """The results of one task: what a process, here or elsewhere, is asked for."""
    from aggregator.studies import fleets, pooling  # a process of a cluster imports them when it has something to do

    ensure()  # whoever decides runs what lies in the cache: see `aggregator.compiling`
    return pooling.run(batch, workers) if batch[0].kind == "pool" else [fleets.run(case) for case in batch]


@contextmanager
def _results(tasks: list[Batch], workers: int, scheduler: str | None) -> Iterator[Iterator[tuple[Batch, list[Result]]]]:
    if scheduler is not None:
        with _cluster(scheduler) as client:
            yield _on_cluster(client, tasks)
    elif workers > 1 and len(tasks) > 1:
        ensure()
        with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
            try:
                yield _on_processes(pool, tasks)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    else:
        yield ((task, work(task, workers)) for task in tasks)


def _on_processes(pool: ProcessPoolExecutor, tasks: list[Batch]) -> Iterator[tuple[Batch, list[Result]]]:
    asked: dict[Future[list[Result]], Batch] = {pool.submit(work, task): task for task in tasks}
    while asked:
        for future in wait(asked, return_when=FIRST_COMPLETED).done:
            yield asked.pop(future), future.result()


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    try:
        client = _dask().Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise StudyError(f"--scheduler {address}: no answer ({error}); start one with `dask scheduler`") from error
    with client:
        yield client


def _on_cluster(client: Any, tasks: list[Batch]) -> Iterator[tuple[Batch, list[Result]]]:
    # Pure: the key is the task's content, so that a worker that is lost costs its task a second run and nothing else.
    futures = {client.submit(work, task, pure=True): task for task in tasks}
    for future in _dask().as_completed(list(futures), loop=client.loop):
        yield futures[future], future.result()


def _dask() -> Any:
    try:
        return import_module("distributed")
    except ImportError:
        raise StudyError("--scheduler: Dask is not installed; pip install 'flyball[dask]'") from None


def _open(out: Path, resume: bool) -> Any:
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        _whole_lines(out / DONE)
    return (out / DONE).open("ab" if resume else "wb")


def _whole_lines(path: Path) -> None:
    """Cut off the line that was being written when the study ended."""
    if not path.exists():
        return
    data = path.read_bytes()
    os.truncate(path, data.rfind(b"\n") + 1)


def _done(study: Study, out: Path) -> dict[str, Result]:
    """Results kept in the folder, of the cases that are asked for now."""
    try:
        lines = (out / DONE).read_bytes().splitlines()
    except OSError:
        raise StudyError(f"--resume {out}: no {DONE} there; start the study with --out {out}") from None
    wanted = {case.digest for case in study.cases}
    kept = {}
    for line in lines:
        try:
            digest, result = orjson.loads(line)
        except (orjson.JSONDecodeError, ValueError):
            continue  # the last line of a run that was killed
        if digest in wanted:
            kept[digest] = result
    return kept
