"""How long a model's predictions take, by kind, batch size and precision, on the device that is there.

There are three kinds: `heatmaps`, from the crops on the device to the heatmaps there; `keypoints`, from uint8 crops in
main memory to keypoints in image px back there; `keypoints, flip test`, the same with the mirrored crops' heatmaps
taken in. A time is that of a whole batch, until the device has done all of it.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from catpose.cost.memory import is_out_of_memory, peak_mb
from catpose.cost.metrics import evaluated, times_ms
from catpose.cost.record import Timing
from catpose.errors import one_line
from catpose.model.pose import Batch, PoseModel

KINDS = ("heatmaps", "keypoints", "keypoints, flip test")
LEAST, MOST = 5, 1000  # batches that are timed; a budget of time lies in between
LARGEST_UNASKED = 64  # the last batch where nobody asked for sizes


def name_of(device: torch.device) -> str:
    """What a report calls a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def half_of(device: torch.device) -> torch.dtype:
    """The half precision that autocast is used with on a device."""
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast to a half precision; to float32, none."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def made_up_batch(n: int, input_size: tuple[int, int], n_keypoints: int) -> Batch:
    """A batch of noise with every keypoint labelled; always the same."""
    width, height = input_size
    random = torch.Generator().manual_seed(0)
    size = torch.tensor([width, height], dtype=torch.float32)
    return {
        "crop": torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=random),
        "keypoints_crop": torch.rand(n, n_keypoints, 2, generator=random) * (size - 1),
        "visibility": torch.full((n, n_keypoints), 2),
        "crop_to_image": torch.eye(2, 3).expand(n, 2, 3).clone(),
        **{name: torch.arange(n) for name in ("annotation_id", "image_id", "category_id", "epoch")},
        "box": torch.cat([torch.zeros(2), size]).expand(n, 4).clone(),
        "area": torch.full((n,), float(width * height)),
    }


def time_predictions(
    model: PoseModel,
    input_size: tuple[int, int],
    device: torch.device,
    batch_sizes: Sequence[int] | None,
    seconds: float,
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
    progress: Callable[[str], object] = lambda line: None,
) -> tuple[list[Timing], list[str]]:
    """Time all kinds of predictions. The model stays on the device, in the layout that Lightning would give it.

    Args:
        input_size: (width, height) of the crops, px.
        batch_sizes: crops at once; None: 1, 2, 4, … up to 64 while a batch's heatmaps take less than `seconds`.
        seconds: for each measurement; five batches are timed even where they take longer.
        dtype: of autocast; float32 does without.
        compiled: by `torch.compile` as it comes.
        progress: told what is being timed.

    Returns:
        the timings; a line where some can't be made here.
    """
    model.to(device, memory_format=torch.channels_last)  # as `PoseModel.setup` has it
    precision = str(dtype).removeprefix("torch.")
    timings: list[Timing] = []
    with evaluated(model), _compiled_forward(model) if compiled else contextlib.nullcontext():
        for size in batch_sizes or (2**i for i in range(LARGEST_UNASKED.bit_length())):
            if batch_sizes is None and timings and 2 * timings[-len(KINDS)].p50_ms > 1000 * seconds:
                break
            progress(f"{'compiled' if compiled else 'eager'}, {precision}, batch of {size}")
            try:
                for kind in KINDS:
                    with peak_mb(device) as peak:
                        times = _times(
                            kind, model, made_up_batch(size, input_size, len(model.skeleton)), device, seconds, dtype
                        )
                        most = peak() if device.type == "cuda" else None
                    n, p = len(times), percentiles(times)
                    timings.append(Timing(kind, size, precision, compiled, *p, n, rate(size, times), most))
            except Exception as error:
                if is_out_of_memory(error):
                    return timings, [f"no room for predictions in batches of {size} ({precision})"]
                if compiled:  # no compiler, or a network that it can't take
                    why = one_line(error).split(" Set TORCHDYNAMO")[0][:160]
                    return timings, [f"torch.compile can't be timed here: {why}"]
                raise
    return timings, []


def _times(
    kind: str, model: PoseModel, batch: Batch, device: torch.device, seconds: float, dtype: torch.dtype
) -> list[float]:
    on_device = batch["crop"].to(device)

    def predict() -> Tensor:
        with autocast(device, dtype):
            if kind == "heatmaps":
                return model(on_device)
            moved = {name: value.to(device) for name, value in batch.items()}
            return model.poses(model(moved["crop"]), moved)["keypoints"].cpu()

    flip_test, model.flip_test = model.flip_test, kind == "keypoints, flip test"
    try:
        return times_ms(predict, device, LEAST, MOST, seconds)
    finally:
        model.flip_test = flip_test


@contextlib.contextmanager
def _compiled_forward(model: PoseModel) -> Iterator[None]:
    """Within the block, `torch.compile` in the place of the model's forward pass, for mirrored crops too."""
    torch._dynamo.reset()
    model.forward = torch.compile(model.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.forward
        torch._dynamo.reset()


def percentiles(times: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    return statistics.median(times), float(np.percentile(times, 95))


def rate(batch_size: int, times: Sequence[float]) -> float:
    """Images a second in batches that took so many ms each."""
    return 1000 * batch_size * len(times) / sum(times)
