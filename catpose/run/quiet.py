"""What libraries say on the terminal that no run needs, left out."""

from __future__ import annotations

import logging
import warnings

#: How Lightning's lines begin that advertise, or tell of hardware that isn't there.
_NEEDLESS = ("💡", "GPU available: False", "TPU available", "HPU available", "`Trainer.fit` stopped")


class _Needed(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_NEEDLESS)


_NEEDED = _Needed()


def quieten() -> None:
    """From here on Lightning logs neither advertisements nor what isn't there; a second call changes nothing."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}.utilities.rank_zero").addFilter(_NEEDED)
    warnings.filterwarnings("ignore", ".*`srun` command is available.*")
