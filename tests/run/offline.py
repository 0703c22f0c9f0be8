"""Reading a W&B offline file back: LevelDB's log framing round protobuf records."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7  # bytes of a block, and of a chunk's header: checksum, length, type
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(file: Path) -> Iterator[Any]:
    """The records of a `.wandb` file, in the order written; AssertionError on a damaged frame."""
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    at, whole = HEADER, b""  # the file's own header is as long as a chunk's
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        chunk = data[at + HEADER : at + HEADER + length]
        if len(chunk) < length:
            return  # the process was killed while it wrote
        assert checksum == zlib.crc32(chunk, zlib.crc32(bytes([kind]))), "checksum"
        at += HEADER + length
        whole = chunk if kind in (FULL, FIRST) else whole + chunk
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
