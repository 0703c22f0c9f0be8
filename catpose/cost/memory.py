"""How much memory work takes, and how large it may become."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch

from catpose.cost.metrics import synchronise

ON_GPU = "the GPU's memory held by tensors, the model's included"
IN_MEMORY = "high-water mark of the process's resident memory, mapped pictures included, over what it was before"
LARGEST = 1024  # where the search for the largest batch ends


@contextlib.contextmanager
def peak_mb(device: torch.device) -> Iterator[Callable[[], float | None]]:
    """The most memory, MB (10⁶ bytes), that was taken since the block began: `ON_GPU`, or `IN_MEMORY` on the CPU.

    None where nobody tells: on other accelerators, and of the CPU's on other systems than Linux, whose high-water mark
    is the only one that can be set back (psutil has none on Linux and macOS).
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device) / 1e6
        return
    if device.type != "cpu" or not _set_back():
        yield lambda: None
        return
    before = psutil.Process().memory_info().rss
    yield lambda: max(0, _high_water() - before) / 1e6


def _set_back() -> bool:
    """Set Linux' high-water mark of this process back to what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    except OSError:
        return False


def _high_water() -> int:
    """Linux' high-water mark of this process's resident memory, bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number from 1 to `most` that fits, 0 where none does: by doubling, then by halving the interval.

    Args:
        fits: holds up to some number and for none beyond; not asked for one twice.
    """
    good, bad = 0, most + 1
    ahead = 1
    while good < most:
        if fits(ahead):
            good, ahead = ahead, min(2 * ahead, most)
        else:
            bad = ahead
            break
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def has_room(work: Callable[[int], object], device: torch.device, n: int) -> bool:
    """Whether `work(n)` gets by with the device's memory, which is free again afterwards."""
    try:
        work(n)
        synchronise(device)
        return True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    finally:
        free(device)
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory is exhausted."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def free(device: torch.device) -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
