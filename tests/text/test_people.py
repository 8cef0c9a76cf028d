"""People of a text get other names: of their gender and origin, the same throughout, but for those in the title."""

from __future__ import annotations

import re

import numpy as np
import pytest

from movieplotgpt.text.formatting import Document
from movieplotgpt.text.people import People

WOMEN = (
    "Ada Bea Cleo Dora Edna Fay Gwen Hope Iris Joan Kate Lena Maud Nell Olga Prue Ruth Sue Tess Una Vera Wilma".split()
)
MEN = "Abe Ben Carl Dan Egon Fred Gus Hans Ivan Jim Karl Leo Max Ned Otto Paul Rex Sam Tom Udo Vic Walt".split()


@pytest.fixture(scope="module")
def people() -> People:
    def film(name: str, she: str, her: str) -> str:
        sentence = f"And here comes {name}, and {she} sings of {her} uncle in Paris. "
        return sentence * 4 + f"Then the captain and an American see {name} with {her} dog."

    texts = [film(name, "she", "her") for name in WOMEN] + [film(name, "he", "his") for name in MEN]
    return People.learn([Document(text, "", {"Origin": "American"}) for text in texts * 3])


def test_gender_comes_from_the_pronouns_after_a_name(people: People) -> None:
    assert people.pools == {"female American": sorted(WOMEN), "male American": sorted(MEN)}


def test_each_name_is_another_of_its_gender_throughout(people: People) -> None:
    text = 'Ada\'s dog bites Ben. Ben, Ada and the American (Carl Otto) run; Adams stays. BEN! Ben-Hur? "Ada!"'
    exchange = people.exchanged(text, "", np.random.default_rng(0))
    found = exchange(text)
    ada, ben = re.findall(r"^(\w+)'s dog bites (\w+)\.", found)[0]
    assert ada in WOMEN and ada != "Ada"
    assert ben in MEN and ben != "Ben"
    assert re.fullmatch(
        rf"{ada}'s dog bites {ben}\. {ben}, {ada} and the American \(\w+ \w+\) run; Adams stays\. BEN! Ben-Hur\? \"{ada}!\"",
        found,
    )
    assert exchange("names: Ada, Ben; words: dog") == f"names: {ada}, {ben}; words: dog"


def test_names_of_the_title_stay_and_no_two_people_become_one(people: People) -> None:
    text = " and ".join(WOMEN[:12])
    for seed in range(50):
        found = people.exchanged(text, "The Loves of ADA", np.random.default_rng(seed))(text).split(" and ")
        assert found[0] == "Ada"
        assert len(set(found)) == 12


def test_the_same_seed_draws_the_same_names(people: People) -> None:
    text = "Ada and Ben"
    first, again, other = (people.exchanged(text, "", np.random.default_rng(seed))(text) for seed in (1, 1, 2))
    assert first == again != other


def test_few_names_of_a_kind_are_kept() -> None:
    text = "And here comes Ada, and she sings. " * 10
    assert People.learn([Document(text)] * 3).pools == {}
