"""Many processes that do something at the same moment."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from typing import Any


def together(processes: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work(i)` answered in each of so many forked processes that waited for each other at the start."""
    context = multiprocessing.get_context("fork")
    ready, said = context.Barrier(processes), context.Queue()

    def run(index: int) -> None:
        ready.wait()
        try:
            said.put((index, work(index), None))
        except BaseException:
            said.put((index, None, traceback.format_exc()))

    children = [context.Process(target=run, args=(index,), daemon=True) for index in range(processes)]
    for child in children:
        child.start()
    answers = sorted((said.get(timeout=240) for _ in children), key=lambda answer: answer[0])
    for child in children:
        child.join()
    for _, _, error in answers:
        assert error is None, error
    return [answer for _, answer, _ in answers]
