"""One line for what jsonargparse says of a setting; how whole commands end on it is in tests/test_broken_config.py."""

from __future__ import annotations

from importlib import metadata

import pytest

from catpose.errors import InputError
from catpose.run.cli import CLASSES, FitCLI
from catpose.run.explain import SYNONYMS, explain

#: The first and the last version of jsonargparse whose messages the patterns are for.
WRITTEN_FOR = ("4.51", "4.53")
KNOWN = {"model.lr": 1e-4, "data.batch_size": 32, "data.num_workers": None, "data.input_size": (256, 256)}


def test_the_messages_are_those_of_this_jsonargparse() -> None:
    """Where this fails: see that tests/test_broken_config.py passes, then move WRITTEN_FOR."""
    installed, first, last = (
        tuple(map(int, version.split(".")[:2])) for version in (metadata.version("jsonargparse"), *WRITTEN_FOR)
    )
    assert first <= installed <= last


def union(types: str, error: str, value: object) -> str:
    """jsonargparse's message on a value that none of several types takes."""
    return (
        f"Does not validate against any of the Union subtypes\n  Subtypes: [{types}]\n  Errors:\n    - {error}\n"
        f"  Given value type: x\n  Given value: {value}"
    )


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("unrecognized arguments: --data.bach_size=3", "unknown setting data.bach_size. Did you mean data.batch_size?"),
        ("Option 'modell.lr' is not accepted", "unknown setting modell.lr. Did you mean model.lr?"),
        ("Group 'data' does not accept option 'init_args.xyzzy'", "unknown setting data.xyzzy. See --help for all."),
        (
            "Parser key \"model\":\n  Problem with given class_path 'x.HRNet':\n    Option 'xyzzy' is not accepted",
            "unknown setting model.xyzzy. See --model.help HRNet for all.",
        ),
        (
            'Parser key "model":\n  - Expected a dot import path string: Hrnet',
            "model: there is no such class as Hrnet. Did you mean HRNet?",
        ),
        (
            'Parser key "model":\n Parser key "codec":\n Import path os.system does not correspond to a subclass',
            "model.codec: there is no such class as os.system. There are MSRAHeatmap, UDPHeatmap, SimCC.",
        ),
        (
            "Parser key \"model\":\n Problem with given class_path 'nowhere.Net':\n No module named 'nowhere'",
            "model: there is no such class as nowhere.Net. Did you mean HRNet?",
        ),
        (
            'Parser key "model.codec":\n' + union("x", "Not a valid subclass of Codec", 3),
            "model.codec: there is no such class as 3. There are MSRAHeatmap, UDPHeatmap, SimCC.",
        ),
        (
            'Parser key "model.codec": Not a valid subclass of Codec. Got value: None Subclass types expect one of:',
            "model.codec: give the name of a class (MSRAHeatmap, UDPHeatmap, SimCC) as class_path, its settings as"
            " init_args",
        ),
        (
            'Parser key "data.input_size":\n  Expected a tuple with 2 elements. Got value: [64, 64, 3]',
            "data.input_size: [64, 64, 3] can't be used; give a list of 2 values, such as [256, 256]",
        ),
        (
            'Parser key "data.num_workers":\n' + union("<class 'int'>, <class 'NoneType'>", "Expected x", "all"),
            "data.num_workers: all can't be used; give a whole number or null",
        ),
        (
            "Parser key \"model.optimizer\": Expected a typing.Literal['adam', 'adamw']. Got value: None",
            "model.optimizer: null can't be used; give adam or adamw",
        ),
        (
            "Parser key \"config\": File does not exist: '/x.yaml'",
            "--config /x.yaml: there is no such file; name a YAML file, such as one of experiments/",
        ),
        ("Unexpected config: [1]", "holds no settings; write them as NAME: VALUE, see experiments/"),
        # of a version that words it otherwise
        ('Parser key "data.root": won\'t do\n\nat all', 'Parser key "data.root": won\'t do at all (see --help)'),
        ("argument --data.root: expected one argument", "argument --data.root: expected one argument (see --help)"),
    ],
)
def test_one_line(message: str, line: str) -> None:
    assert explain(message, KNOWN, CLASSES) == line


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", ["learning_rate", "model.learning_rate", "train.epochs", "imgsz", "data.batch"])
def test_what_other_tools_call_a_setting(name: str) -> None:
    synonym = SYNONYMS[name.rsplit(".", 1)[-1]]
    with pytest.raises(InputError, match=rf"^unknown setting {name}\. Did you mean {synonym}\?$"):
        FitCLI([f"--{name}=3"])


def test_synonyms_are_of_settings_that_are_there() -> None:
    known = FitCLI([]).parser.known_settings()  # type: ignore[attr-defined]
    assert {*SYNONYMS.values()} <= {*known, "model", "out"}
    assert not {*SYNONYMS} & {key.rsplit(".", 1)[-1] for key in known if not key.startswith("model.")}
