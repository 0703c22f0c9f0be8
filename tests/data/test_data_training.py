"""What an epoch of training draws from."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import made_up
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catpose.data.augment import Augmentation
from catpose.data.datamodule import CatDataModule
from catpose.data.dataset import Sample
from catpose.data.training import TrainingSet, first_pictures
from catpose.errors import InputError

STILL = Augmentation(flip_probability=0, rotation_factor=0, scale_factor=0, half_body_probability=0)


class Part:
    """A data set whose samples say which they are."""

    input_size = (64, 64)

    def __init__(self, name: str, n: int) -> None:
        self.name, self.n = name, n

    def __len__(self) -> int:
        return self.n

    def sample(self, place: int, epoch: int, draw: int) -> tuple[str, int, int, int]:
        return self.name, place, epoch, draw


@given(
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 50)), min_size=1, max_size=4),
    epoch=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_each_set_has_its_share_of_an_epoch(sizes: list[tuple[int, int]], epoch: int, seed: int) -> None:
    parts = [Part(str(i), n) for i, (n, _) in enumerate(sizes)]
    counts = [count for _, count in sizes]
    together = TrainingSet([(0, parts)], counts, seed)  # type: ignore[list-item]
    samples = [together[epoch, place] for place in range(len(together))]
    assert len(together) == sum(counts) == len(samples)
    assert [sample[3] for sample in samples] == [*range(len(samples))]  # no two are changed alike
    for part, count in zip(parts, counts, strict=True):
        times = Counter(sample[1] for sample in samples if sample[0] == part.name)
        assert sum(times.values()) == count
        assert {times[i] for i in range(part.n)} <= {count // part.n, -(-count // part.n)}
    backwards = [together[epoch, place] for place in reversed(range(len(together)))]
    assert backwards[::-1] == samples  # in whichever order they are asked for


def test_an_epoch_of_several_sets_draws_each_ones_order_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    rng = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda key: (drawn.append(key), rng(key))[1])
    together = TrainingSet([(0, [Part("a", 30), Part("b", 30)])], [10, 10])  # type: ignore[list-item]
    for place in range(10):
        assert [together[3, place + start][0] for start in (0, 10)] == ["a", "b"]
    assert len(drawn) == 2


def test_fewer_than_all_are_others_in_each_epoch() -> None:
    together = TrainingSet([(0, [Part("a", 30)])], [10])  # type: ignore[list-item]
    epochs = [{together[epoch, place][1] for place in range(10)} for epoch in range(20)]
    assert len({frozenset(each) for each in epochs}) > 15
    assert set.union(*epochs) == {*range(30)}


def test_late_epochs_have_their_own_changes() -> None:
    together = TrainingSet([(0, [Part("early", 3)]), (4, [Part("late", 3)])], [3])  # type: ignore[list-item]
    assert [together[epoch, 1][0] for epoch in range(6)] == ["early"] * 4 + ["late"] * 2


@given(n=st.integers(1, 30), seed=st.integers(0, 99))
def test_fewer_pictures_are_part_of_more(n: int, seed: int) -> None:
    image_index = np.repeat(np.arange(30) * 3, 2)
    few, more = first_pictures(image_index, n, seed), first_pictures(image_index, n + 1, seed)
    assert len(set(image_index[few])) == n
    assert few.sum() == 2 * n
    assert (more | ~few).all()


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return made_up.data_set(folder / "cats", (12, 5, 4)), made_up.data_set(folder / "dogs", (6, 2, 2))


def crops(root: Path, epoch: int = 0, **settings: object) -> list[Sample]:
    data = CatDataModule(str(root), (48, 64), 4, cache="off", **settings)  # type: ignore[arg-type]
    data.setup("fit")
    training = data.train_dataloader().dataset
    return [training[epoch, place] for place in range(len(training))]  # type: ignore[arg-type]


def test_other_folders_come_in_their_measure(roots: tuple[Path, Path]) -> None:
    cats, dogs = roots
    alone, others = crops(cats, augment=STILL), crops(dogs, augment=STILL)
    both = crops(cats, augment=STILL, also={str(dogs): 0.5})
    assert len(both) == len(alone) + round(len(others) / 2)
    assert all((a["crop"] == b["crop"]).all() for a, b in zip(alone, both, strict=False))
    theirs = [other["crop"].tobytes() for other in others]
    assert all(sample["crop"].tobytes() in theirs for sample in both[len(alone) :])


def test_light_changes_towards_the_end(roots: tuple[Path, Path]) -> None:
    unchanged = crops(roots[0], augment=STILL)
    settings = {"late_from": 3, "late_augment": STILL}
    assert not all(
        (a["crop"] == b["crop"]).all() for a, b in zip(unchanged, crops(roots[0], 2, **settings), strict=True)
    )
    assert all((a["crop"] == b["crop"]).all() for a, b in zip(unchanged, crops(roots[0], 3, **settings), strict=True))


def test_fewer_pictures(roots: tuple[Path, Path]) -> None:
    chosen = [{sample["image_id"] for sample in crops(roots[0], train_images=n)} for n in (2, 5, 12)]
    assert [len(each) for each in chosen] == [2, 5, 12]
    assert chosen[0] < chosen[1] < chosen[2]
    with pytest.raises(InputError, match=r"^data\.train_images: 13 are asked for, but .* has 12 .*; give 12 or fewer$"):
        crops(roots[0], train_images=13)


def test_other_keypoints_are_refused(roots: tuple[Path, Path], tmp_path: Path) -> None:
    heads = made_up.data_set(tmp_path / "heads", (3, 2, 2))
    for file in (heads / "annotations").iterdir():
        text = file.read_text()
        file.write_text(text.replace("root_of_tail", "tip"))
    with pytest.raises(InputError, match=r"^data\.also: .* has other keypoints than "):
        crops(roots[0], also={str(heads): 1.0})


def test_pictures_that_are_scored_are_refused(roots: tuple[Path, Path], tmp_path: Path) -> None:
    """In whichever folder and under whichever name; the training pictures themselves may come again."""
    cats = roots[0]
    other = shutil.copytree(cats, tmp_path / "other")
    assert len(crops(cats, also={str(other): 1.0})) == 2 * len(crops(cats))
    train, val = (other / "annotations" / f"{name}.json" for name in ("train", "val"))
    scored = json.loads(val.read_text())
    image = scored["images"][0]
    (other / "images" / image["file_name"]).rename(other / "images" / "elsewhere.png")
    image["file_name"] = "elsewhere.png"
    train.write_text(json.dumps(scored))
    with pytest.raises(InputError, match=rf"^data\.also: {train}: image \d+ \(.*\) is {cats}/images/.*keep it in one"):
        crops(cats, also={str(other): 1.0})
