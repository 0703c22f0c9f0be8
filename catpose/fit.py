"""Train a model: `python -m catpose.fit --config experiments/hrnet.yaml --data.root DIR --model.lr 1e-4`.

Any setting can be overridden; `--help` lists them, `--model.help HRNet` those of one model. The same command on the
same folder (`--out`) goes on where a run was interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catpose.errors import INTERRUPTED, command
from catpose.plain_yaml import argument, flatten

if TYPE_CHECKING:  # else torch would be loaded for `import catpose.fit`
    from catpose.run.training import Trained


def train(config: str | Path, *, out: str | Path | None = None, **settings: Any) -> Trained:
    """Train as `fit --config CONFIG` does, in this process; go on where the run's folder holds a checkpoint.

        train("experiments/mobilenet.yaml", out="runs/short", data={"root": "data/cats"}, trainer={"max_epochs": 20})

    Args:
        config: an experiment's YAML.
        out: the run's folder; None: runs/NAME_OF_CONFIG.
        settings: those that differ from the file's, in groups as there, or by dotted names: `**{"model.lr": 1e-3}`.

    Returns:
        the run: `run.path`, its folder, with `run.best`, the checkpoint of the best validation AP; `score`, the last
        validation's, with `values["val/AP"]`; `steps`.

    Raises:
        InputError: settings, data or a folder that can't be used.
        KeyboardInterrupt: the same call goes on from the last checkpoint.
    """
    from catpose.run.training import train as train_by

    overrides = flatten(settings) | ({} if out is None else {"out": str(out)})
    args = [argument(key, value) for key, value in overrides.items()]
    try:
        return train_by(["--config", str(config), *args])
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            raise KeyboardInterrupt from None
        raise


@command
def main(argv: list[str] | None = None) -> None:
    from catpose.run.table import closing_table
    from catpose.run.training import train

    trained = train(sys.argv[1:] if argv is None else argv)
    if trained.is_first:
        from catpose.cost.complexity import write_complexity

        write_complexity(trained.model, trained.input_size, trained.run.complexity)
    print(closing_table(trained.score, trained.steps, str(trained.best), trained.run.path))


if __name__ == "__main__":
    main()
