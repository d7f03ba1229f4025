# SPDX-License-Identifier: Apache-2.0
"""How much memory there is, what windows are held and computed at a time by it, and what the C library is told."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from custom_nets import allocator
from custom_nets.prediction import batches, memory
from custom_nets.prediction.windows import StreamedWindows

GIB = 1 << 30


def test_bytes_of_the_planes_that_are_held() -> None:
    assert memory.buffer_bytes((100, 50, 40), (16, 20, 24), 0, channels=3) == 4 * (3 + 1) * 16 * 50 * 40
    assert memory.buffer_bytes((100, 50, 40), (16, 20, 24), 2, channels=3) == 4 * (3 + 1) * 100 * 50 * 24
    assert memory.buffer_bytes((10, 50, 40), (16, 20, 24), 1, channels=1) == 4 * 2 * 16 * 20 * 40, "filled up"


@pytest.mark.parametrize(("free_gib", "axis"), [(64, 0), (1, 2)])
def test_planes_are_finished_along_the_first_axis_where_they_fit(free_gib: int, axis: int) -> None:
    shape, window = (256, 320, 640), (96, 96, 96)
    sizes = [memory.buffer_bytes(shape, window, place, 20) for place in range(3)]
    assert sizes.index(min(sizes)) == 2
    assert memory.streaming_axis(shape, window, 20, free_gib * GIB) == axis


def test_a_third_of_the_free_memory_is_for_the_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, window = (40, 40, 60), (20, 20, 20)
    needed = memory.buffer_bytes(shape, window, 0, 2)
    for free, axis in ((4 * needed, 0), (3 * needed, 2)):
        monkeypatch.setattr(memory, "free_bytes", lambda free=free: free)
        assert memory.streaming_axis(shape, window, 2) == axis


@pytest.mark.parametrize(
    ("wanted", "of_one", "free", "at_once"),
    [(4, GIB, 64 * GIB, 4), (4, GIB, 4 * GIB, 2), (4, 8 * GIB, 4 * GIB, 1), (4, 0, GIB, 4), (1, 1, GIB, 1)],
)
def test_as_many_windows_as_fit(wanted: int, of_one: int, free: int, at_once: int) -> None:
    assert memory.windows_at_once(wanted, of_one, free) == at_once


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_free_memory_is_shared_by_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.free_bytes()
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert 1 << 20 < whole <= int(total.split()[1]) * 1024
    monkeypatch.setattr(memory, "_sharers", 1)
    memory.shared_by(4)
    assert memory.free_bytes() == pytest.approx(whole / 4, rel=0.3)
    memory.shared_by(0)
    assert memory.free_bytes() == pytest.approx(whole, rel=0.3)


def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "max").write_text("5000000\n")
    (tmp_path / "current").write_text("4000000\n")
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "max",))
    monkeypatch.setattr(memory, "_USED", (tmp_path / "current",))
    assert memory.free_bytes() == 1_000_000
    (tmp_path / "max").write_text("max\n")
    assert memory.free_bytes() > 1_000_000
    (tmp_path / "max").write_text("3000000\n")
    assert memory.free_bytes() == 0, "more is taken than it may be"


def test_the_peak_is_in_mib() -> None:
    assert 50 < memory.peak_mib() < 200_000


#: Of the windows that a network was given at a time.
Seen = list[int]
IMAGE, ROI = (1, 1, 30, 22, 20), (12, 12, 12)


def network(seen: Seen, before: Callable[[int], object] = lambda number: None) -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    layer = torch.nn.Conv3d(1, 2, 3, padding=1).requires_grad_(False)

    def forward(windows: Tensor) -> Tensor:
        before(len(windows))
        seen.append(len(windows))
        return layer(windows)

    return forward


def streamed(forward: Callable[[Tensor], Tensor], batch_size: int = 4) -> Tensor:
    blocks: list[Tensor] = []
    image = torch.rand(IMAGE, generator=torch.Generator().manual_seed(1))
    inferer = SlidingWindowInferer(ROI, batch_size, 0.5, mode="gaussian")
    StreamedWindows(inferer, lambda block: blocks.append(block.clone()))(image, forward)
    return torch.cat(blocks, dim=1)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the free memory; no costs are known."""
    monkeypatch.setattr(batches, "_costs", {})
    return lambda amount: monkeypatch.setattr(memory, "free_bytes", lambda: amount)


@pytest.mark.parametrize(
    ("free_gib", "cost_gib", "expected"),
    [(64, 1, [4] * 9), (7, 1, [1] + [4] * 8 + [3]), (4, 1, [1] + [2] * 17 + [1]), (1, 1, [1] * 36)],
    ids=["plenty", "enough", "two fit", "one fits"],
)
def test_the_first_window_tells_how_many_go_together(
    monkeypatch: pytest.MonkeyPatch, free: Callable[[int], None], free_gib: int, cost_gib: int, expected: Seen
) -> None:
    peak = [100.0]
    monkeypatch.setattr(memory, "peak_mib", lambda: peak[0])
    free(64 * GIB)
    wanted = streamed(network([]))
    free(free_gib * GIB)
    seen: Seen = []

    def grown(windows: int) -> None:
        peak[0] = max(peak[0], 100 + 1024 * cost_gib * windows)

    found = streamed(network(seen, grown))
    assert seen == expected
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_what_a_window_took_is_remembered(monkeypatch: pytest.MonkeyPatch, free: Callable[[int], None]) -> None:
    """In the next scan the peak of the process does not grow again."""
    peaks = iter([100.0, 1124.0])
    monkeypatch.setattr(memory, "peak_mib", lambda: next(peaks, 1124.0))
    free(4 * GIB)
    seen: Seen = []
    streamed(network(seen))
    assert seen[:3] == [1, 2, 2]
    seen.clear()
    streamed(network(seen))
    assert seen == [2] * 18


def test_a_batch_too_large_for_a_gpu_is_halved(free: Callable[[int], None]) -> None:
    def full(windows: int) -> None:
        if windows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    free(64 * GIB)
    wanted = streamed(network([]), batch_size=8)
    seen: Seen = []
    found = streamed(network(seen, full), batch_size=8)
    assert seen == [2] * 18
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_one_window_too_large_is_an_error(free: Callable[[int], None]) -> None:
    def full(_: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    free(64 * GIB)
    with pytest.raises(torch.OutOfMemoryError):
        streamed(network([], full))


class Library:
    """A C library that notes what it is told."""

    def __init__(self, answer: int = 1) -> None:
        self.told: list[Any] = []
        self.answer = answer

    def mallopt(self, option: int, value: int) -> int:
        self.told.append((option, value))
        return self.answer

    def malloc_trim(self, pad: int) -> None:
        self.told.append(pad)


def use(monkeypatch: pytest.MonkeyPatch, platform: str, library: object) -> None:
    """Another platform, and its C library, in the allocator's eyes alone."""
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    monkeypatch.setattr(allocator, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)


def test_glibc_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "linux", library := Library())
    assert allocator.keep_memory(512)
    assert dict(library.told) == {-4: 0, -1: 512 << 20, -2: 64 << 20}  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    library.told.clear()
    allocator.give_back()
    assert library.told == [0]


@pytest.mark.parametrize(
    ("platform", "library"),
    [("linux", SimpleNamespace()), ("linux", Library(answer=0)), ("darwin", Library()), ("win32", None)],
    ids=["musl", "refused", "macOS", "Windows"],
)
def test_elsewhere_nothing_changes(monkeypatch: pytest.MonkeyPatch, platform: str, library: Any) -> None:
    use(monkeypatch, platform, library)
    assert not allocator.keep_memory()
    allocator.give_back()
    assert platform == "linux" or not getattr(library, "told", [])
