"""The table of persons is what was listed, and its shards are the whole, however it is cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnetpose.data.annotations import Image, Person
from hrnetpose.data.persons import Persons
from hrnetpose.stage import StageError

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
IMAGES = st.lists(st.tuples(st.integers(0, 20), NAMES), max_size=30).map(
    lambda entries: [
        Image(
            number * 3,
            name,
            8 + number,
            9,
            tuple(
                Person(row, number * 3, np.array([0, row, 1, 2.5], np.float32), 0.5)
                for row in range(persons)
            ),
        )
        for number, (persons, name) in enumerate(entries)
    ]
)


def plain(images: list[Image]) -> list[Any]:
    """Images in a form that compares."""
    return [
        (i.id, i.file_name, i.width, i.height,
         [(p.id, p.image_id, p.box.tolist(), p.score) for p in i.persons])
        for i in images
    ]  # fmt: skip


@given(images=IMAGES)
def test_the_table_holds_the_images_as_they_are(images: list[Image]) -> None:
    assert plain(Persons.of(images, "gt").images()) == plain(images)


def test_a_table_is_read_back(tmp_path: Path) -> None:
    person = Person(1, 7, np.array([1, 2, 3, 4], np.float32), 0.25)
    images = [Image(7, "a b/ü'.jpg", 6, 5, (person,))]
    Persons.of(images, "det").write(tmp_path / "persons.npz")

    found = Persons.read(tmp_path / "persons.npz")

    assert plain(found.images()) == plain(images)
    assert found.boxes_from == "det"


def test_columns_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "persons.npz"
    table = vars(Persons.of([Image(1, "a.jpg", 1, 1, ())], "gt"))
    for name, column, says in (
        ("width", np.zeros(3, np.int64), r"width is int64 \[3\], expected int64 M"),
        ("start", np.array([0, 1]), "its columns do not fit together"),
    ):
        np.savez(path, **{**table, name: column})

        with pytest.raises(StageError, match=rf"persons\.npz: {says}"):
            Persons.read(path)


@given(images=IMAGES, count=st.integers(1, 12))
def test_the_shards_in_order_are_the_whole(images: list[Image], count: int) -> None:
    table = Persons.of(images, "gt")
    shards = [table.shard(index, count) for index in range(1, count + 1)]

    assert plain([image for shard in shards for image in shard]) == plain(images)


@given(images=IMAGES, count=st.integers(1, 12))
def test_no_shard_has_many_more_persons_than_its_share(images: list[Image], count: int) -> None:
    persons = [len(image.persons) for image in images]
    table = Persons.of(images, "gt")

    for index in range(1, count + 1):
        held = sum(len(image.persons) for image in table.shard(index, count))
        assert held <= sum(persons) / count + max(persons, default=0)


@given(images=IMAGES, persons=st.integers(1, 50))
def test_the_first_images_hold_just_enough_persons(images: list[Image], persons: int) -> None:
    found = Persons.of(images, "gt").first(persons)

    held = [len(image.persons) for image in found]
    assert plain(images[: len(found)]) == plain(found)
    assert sum(held) >= persons or len(found) == len(images)
    assert sum(held[:-1]) < persons
