"""Checkpoints written whole or not at all, wherever a run's folder lies, and read as data."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from catpose.files import atomic_write
from catpose.run.checkpoint import read_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way to save, but for where it writes first: beside the file, which is replaced in one step.

    Lightning's own stages in $TMPDIR. Where that is another file system it then copies over the good checkpoint, and a
    kill meanwhile leaves neither the old nor the new one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            InputError: it can't be written, no space for example; what was there is as it was.
        """
        write_serialised(serialised(checkpoint), Path(path))

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """What is in a checkpoint, on the CPU, nothing in it executed: by the reader that it was checked with.

        Raises:
            InputError: it can't be read.
        """
        return read_checkpoint(Path(path))


def serialised(checkpoint: dict[str, Any]) -> io.BytesIO:
    """A checkpoint's bytes: torch's own writer tells nothing of what was wrong with a file."""
    content = io.BytesIO()
    torch.save(checkpoint, content)
    return content


def write_serialised(content: io.BytesIO, path: Path) -> None:
    """Put a checkpoint's bytes on the disk; raises as `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())
