"""Train a model: `python -m catpose.fit --config experiments/hrnet.yaml --data.root DIR --model.lr 1e-4`.

Any setting can be overridden; `--help` lists them, `--model.help HRNet` those of one model. The same command on the
same folder (`--out`) goes on where a run was interrupted.
"""

from __future__ import annotations

import sys

from catpose.errors import command


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
