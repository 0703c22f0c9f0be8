from __future__ import annotations

from pathlib import Path

import pytest

import catpose
from catpose.errors import InputError
from catpose.study.file import OptunaClass, read_study

REPOSITORY = Path(__file__).parents[2]
GRID = """# Question: which?
experiment: experiments/baseline.yaml
space:
  model.lr: [1e-5, 1e-4, 5e-4]
"""
SAMPLED = GRID.replace("[1e-5, 1e-4, 5e-4]", "{low: 1e-5, high: 1e-2, log: true}")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(REPOSITORY)
    return tmp_path / "lr.yaml"


def test_a_study_of_three_lines_has_defaults(file: Path) -> None:
    file.write_text(GRID)
    study = read_study(file)
    assert (study.name, study.question, study.seeds) == ("lr", "which?", (0,))
    assert study.metrics == {"val/AP": "maximize"}
    assert [each and each.label for each in study.configurations] == ["1e-05", "0.0001", "0.0005"]
    assert (study.reference, study.published, study.grace) == (None, (None, None, None), 120)
    args = study.args(study.space.configurations()[1], 7)
    assert args == ["--config", "experiments/baseline.yaml", "--model.lr=0.0001", "--seed_everything=7"]


def test_what_can_be_said_is_heard(file: Path) -> None:
    more = (
        "settings: {trainer.max_epochs: 20, data.input_size: [64, 64]}\npublished: [0.153, null, 0.228]\n"
        "reference: 5e-4\nseeds: [3, 6]\nmetric: {val/AP: maximize, GMACs: minimize}\ntime_limit: 90m\ngrace: 6\n"
        "slurm: {partition: gpu}\nsplits: 2\ntest_copies: drop\n"
    )
    file.write_text(GRID + more)
    study = read_study(file, overrides=["--data.root=x"])
    assert study.settings == ("--trainer.max_epochs=20", "--data.input_size=[64, 64]", "--data.root=x")
    assert (study.published, study.reference, study.seeds) == ((0.153, None, 0.228), "0.0005", (3, 6))
    assert study.metrics == {"val/AP": "maximize", "GMACs": "minimize"}
    assert (study.time_limit, study.grace, study.slurm) == (5400, 6, {"partition": "gpu"})
    assert (study.splits, study.division(3), study.test_copies) == (2, 1, "drop")


def test_a_range_is_sampled_so_many_times(file: Path) -> None:
    file.write_text(SAMPLED + "trials: 5\nsampler: {name: TPESampler, n_startup_trials: 2}\npruner: MedianPruner\n")
    study = read_study(file)
    assert study.configurations == [None] * 5
    assert (study.sampler, study.pruner) == (
        OptunaClass("TPESampler", {"n_startup_trials": 2}),
        OptunaClass("MedianPruner", {}),
    )


@pytest.mark.parametrize("named", ["baseline", "experiments/baseline"])
def test_an_experiment_that_comes_with_catpose_is_found_by_its_name(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "lr.yaml"
    file.write_text(GRID.replace("experiments/baseline.yaml", named))
    ours = Path(catpose.__file__).parents[1] / "experiments" / "baseline.yaml"
    assert read_study(file).experiment == read_study(file, Path(named)).experiment == ours


def test_another_experiment_takes_its_place_and_names_the_study(file: Path) -> None:
    file.write_text(GRID)
    study = read_study(file, Path("experiments/mobilenet.yaml"))
    assert (study.name, study.experiment) == ("lr-mobilenet", Path("experiments/mobilenet.yaml"))
    assert read_study(file, Path("experiments/baseline.yaml")).name == "lr"
    assert read_study(file, name="mine").name == "mine"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no study"),
        ("- 1", "no study"),
        ("a: [", "no YAML"),
        ("\x00", "no YAML"),
        (GRID + "seed: 3", "Did you mean seeds"),
        (GRID + "seeds: 0", "seeds"),
        (GRID + "seeds: [1, 1]", "seeds"),
        (GRID + "seeds: true", "seeds"),
        (GRID + "space: {}", "twice"),
        (GRID + "  model.lr: [1, 2]", "twice"),
        (GRID.replace("experiments/baseline.yaml", "nowhere.yaml"), "nowhere.yaml"),
        (GRID.replace("experiment:", "#"), "experiment is missing"),
        (GRID + "trials: 5", "name a sampler"),
        (GRID + "sampler: TPESampler", "trials is missing"),
        (SAMPLED, "trials is missing"),
        (SAMPLED + "trials: -1", "trials"),
        (SAMPLED + "trials: 5\nreference: 1", "reference: is of a grid's"),
        (SAMPLED + "trials: 5\npublished: [0.1]", "published: is of a grid's"),
        (
            'experiment: experiments/baseline.yaml\nspace: {a: {"x, b y": {model.lr: 1e-4}, x: {model.lr: 1e-3}},'
            ' b: {y: {model.depth: 50}, "y, b y": {model.depth: 101}}}\n',
            "two configurations are called a x, b y, b y",
        ),
        (GRID + "reference: 2", "2 is no configuration"),
        (GRID + "published: [1]", "one number a configuration"),
        (GRID + "published: [1, 0, x]", "published.2: is x; input should be a valid number"),
        (GRID + "published: [1, 67.3, 0]", "published.1: is 67.3"),
        (GRID + "published: [.nan, 1, 0]", "published.0: is nan"),
        (GRID + "metric: AP", "metric"),
        (GRID + "metric: val/APP", "Did you mean val/AP"),
        (GRID + "metric: {val/AP: minimize}", "give maximize"),
        (GRID + "settings: {wandb.group: x}", "leave it out"),
        (GRID + "name: ..", "name"),
        (GRID + "metric: {val/AP: up}", "maximize or minimize"),
        (GRID + "metric: {val/AP: maximize, GMACs: minimize}\npruner: MedianPruner", "can't prune"),
        (GRID + "settings: {model.lr: 1}", "what this study varies"),
        (GRID + "settings: {seed_everything: 1}", "seeds"),
        (GRID + "settings: [1]", "settings"),
        (GRID + "time_limit: soon", "time_limit"),
        (GRID + "grace: 0", "grace"),
        (GRID + "name: a/b", "name"),
        (GRID + "slurm: gpu", "slurm: is gpu; give settings as {KEY: VALUE}"),
        (GRID + "settings: null", "settings"),
        (GRID + "published: [true, 1, 2]", "published.0: is True"),
        (GRID + "seeds: [0, -1]", "seeds.1: is -1; input should be greater than or equal to 0"),
        (GRID + "imports: [1]", "no list of modules"),
        (GRID.replace("experiment:", "experimant:"), "Did you mean experiment"),
        (GRID + "sampler: [1]", "sampler"),
        (GRID + "splits: 1", "splits: is 1"),
        (GRID + "splits: 5", "give seeds: 5 or a multiple"),
        (GRID + "splits: 2\nseeds: 3", "give seeds: 2 or a multiple"),
        (GRID + "splits: 2\nseeds: [1, 3]", "give seeds: 2 or a multiple"),
        (SAMPLED + "trials: 5\nsplits: 2\nseeds: 2", "a sampler or pruner would"),
        (GRID + "test_copies: leave", "test_copies: is leave"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_files_name(file: Path, text: str, named: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as error:
        read_study(file)
    assert named in str(error.value)
    assert "nowhere.yaml" in str(error.value) or str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_an_option_of_what_is_varied_is_refused(file: Path) -> None:
    file.write_text(GRID)
    for overrides in (["--model.lr", "1e-3"], ["--model.lr=1e-3"], ["--model.init_args.lr=1"], ["--seed_everything=3"]):
        with pytest.raises(InputError, match="the command line"):
            read_study(file, overrides=overrides)
