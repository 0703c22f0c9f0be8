from __future__ import annotations

import sys

import pytest
import torch

from catpose.cost.memory import has_room, largest, peak_mb

CPU = torch.device("cpu")


@pytest.mark.parametrize("most", [1, 2, 7, 64, 100])
def test_the_largest_is_found_with_few_questions(most: int) -> None:
    for true in range(most + 3):
        asked: list[int] = []

        def fits(n: int, true: int = true, asked: list[int] = asked) -> bool:
            asked.append(n)
            return n <= true

        assert largest(fits, most) == min(true, most)
        assert all(1 <= n <= most for n in asked)
        assert len(set(asked)) == len(asked) <= 2 * most.bit_length()


@pytest.mark.slow
def test_only_a_lack_of_memory_is_no_room() -> None:
    def work(n: int) -> None:
        if n > 5:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if n < 1:
            raise ValueError("no bug is taken for it")

    assert largest(lambda n: has_room(work, CPU, n), 64) == 5
    with pytest.raises(ValueError, match="no bug"):
        has_room(work, CPU, 0)


def test_the_cpu_s_own_refusal_is_known() -> None:
    assert not has_room(lambda n: torch.empty(n, dtype=torch.uint8), CPU, 2**60)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells")
def test_the_peak_is_seen_though_it_has_gone() -> None:
    with peak_mb(CPU) as peak:
        before = peak()
        torch.ones(50_000_000)  # 200 MB, and gone
        after = peak()
    assert before is not None
    assert after is not None
    assert 190 <= after - before <= 260
    with peak_mb(CPU) as peak:
        again = peak()
        assert again is not None
        assert again < 100  # set back


def test_other_devices_do_not_tell() -> None:
    with peak_mb(torch.device("meta")) as peak:
        assert peak() is None
