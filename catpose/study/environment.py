"""What a trial's process is given of this machine: a worker's share of its GPUs and cores, and nothing private.

Light, for a storage's URL is masked before anything else is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from catpose.errors import one_line
from catpose.machine import CORES, usable_cores

#: The environment variable that holds a storage's URL.
STORAGE = "CATPOSE_STORAGE"
#: What a child doesn't inherit: the way into the storage, and what would make Lightning take it for started by SLURM
#: (it would then requeue the job by itself, which is the launcher's part).
PRIVATE = (STORAGE, "PGPASSWORD", "PGPASSFILE", "MYSQL_PWD")
PRIVATE_PREFIXES = ("SLURM_", "SLURMD_", "SUBMITIT_", "PMI_", "PMIX_")


def environment(workers: int, index: int) -> dict[str, str]:
    """A child's environment: the `index`th worker's share of this machine's GPUs and cores, and nothing private."""
    variables = {
        key: value for key, value in os.environ.items() if key not in PRIVATE and not key.startswith(PRIVATE_PREFIXES)
    }
    gpus = visible_gpus()
    if gpus and workers > 1:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(share(gpus, workers, index))
    variables[CORES] = str(max(1, usable_cores() // workers))  # which its loading processes are as many as
    variables.setdefault("OMP_NUM_THREADS", variables[CORES])
    return variables


def share(gpus: Sequence[str], workers: int, index: int) -> list[str]:
    """The `index`th worker's GPUs: an equal part of them, or one of its own or shared where there are fewer."""
    if workers >= len(gpus):
        return [gpus[index % len(gpus)]]
    return [gpu for i, gpu in enumerate(gpus) if i * workers // len(gpus) == index]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip() and gpu.strip() != "-1"]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def masked(url: str) -> str:
    """The URL with *** for each password in it; also where it is no URL at all."""
    text = re.sub(r"(://[^:/@?#]*:).*@", r"\1***@", one_line(url))
    return re.sub(r"(?i)(pass\w*=)[^&]*", r"\1***", text)
