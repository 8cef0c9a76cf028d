"""What a person gets wrong in a settings file or an override, and the sentence that answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator, model_validator

from movieplotgpt.config import Settings, build_settings, override, read_settings
from movieplotgpt.errors import ConfigError


class Bread(Settings):
    kind: Literal["bread"] = "bread"
    flour: int = Field(500, ge=1)
    yeast: float = 0.1


class Cake(Settings):
    kind: Literal["cake"] = "cake"
    sugar: int = 200
    layers: tuple[int, ...] = (1, 2)


Bakery = Annotated[Bread | Cake, Field(discriminator="kind")]


class Oven(Settings):
    degrees: int = Field(180, ge=50, le=300)
    minutes: float | None = 30.0
    mode: int | Literal["auto"] = "auto"

    @field_validator("degrees")
    @classmethod
    def _even(cls, degrees: int) -> int:
        if degrees % 2:
            raise ValueError("an oven knows even degrees only")
        return degrees


class Kitchen(Settings):
    bake: Bakery = Bread()
    more: tuple[Bakery, ...] = ()
    named: dict[str, Bakery] = Field({})
    oven: Oven = Oven()
    spare: Oven | None = None
    cook: str = "Ada"

    @model_validator(mode="after")
    def _not_too_hot(self) -> Kitchen:
        if self.oven.degrees > 200 and isinstance(self.bake, Cake):
            raise ValueError("a cake burns above 200 degrees")
        return self


class Town(Settings):
    kitchen: Kitchen = Kitchen()
    name: str


def complaint(values: dict[str, Any], cls: type[Settings] = Kitchen) -> str:
    with pytest.raises(ConfigError) as caught:
        build_settings(cls, values)
    return str(caught.value).removeprefix("the settings: ")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"oven": {"degree": 180}}, "unknown setting oven.degree; did you mean oven.degrees?"),
        ({"ovn": {"degrees": 180}}, "unknown setting ovn; did you mean oven?"),
        ({"spare": {"minute": 3}}, "unknown setting spare.minute; did you mean spare.minutes?"),
        ({"bake": {"kind": "bread", "flower": 3}}, "unknown setting bake.flower; did you mean bake.flour?"),
        ({"bake": {"kind": "cake", "sugars": 3}}, "unknown setting bake.sugars; did you mean bake.sugar?"),
        ({"cok": "Bo", "oven": {"degrees": "hot"}}, "unknown setting cok; did you mean cook?"),
        (
            {"more": [{"kind": "cake"}, {"kind": "cake", "suga": 1}]},
            "unknown setting more.1.suga; did you mean more.1.sugar?",
        ),
        ({"named": {"Jo": {"kind": "cake", "suga": 1}}}, "unknown setting named.Jo.suga; did you mean named.Jo.sugar?"),
        ({"oven": {"cook": "Bo"}}, "unknown setting oven.cook; did you mean cook?"),
        ({"oven": {"xyz": 1}}, "unknown setting oven.xyz; oven has degrees, minutes, mode"),
        ({"xyz": 1}, "unknown setting xyz; the settings has bake, cook, more, named, oven, spare"),
    ],
)
def test_a_misspelt_key_is_told_the_right_one(values: dict[str, Any], sentence: str) -> None:
    assert complaint(values).startswith(sentence)


def test_a_setting_of_another_kind_is_no_setting_of_this_one() -> None:
    assert complaint({"bake": {"kind": "bread", "layers": [1]}}) == (
        "unknown setting bake.layers; bake has flour, kind, yeast"
    )


def test_sections_in_sections() -> None:
    deep = {"name": "x", "kitchen": {"bake": {"kind": "cake", "layer": [1]}}}
    assert complaint(deep, Town) == "unknown setting kitchen.bake.layer; did you mean kitchen.bake.layers?"
    misplaced = {"name": "x", "oven": {"degrees": 180}}
    assert complaint(misplaced, Town) == "unknown setting oven; did you mean kitchen.oven?"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"oven": {"degrees": 20}}, "setting oven.degrees: input should be greater than or equal to 50, not 20"),
        ({"oven": {"degrees": 181}}, "setting oven.degrees: an oven knows even degrees only, not 181"),
        ({"oven": {"degrees": None}}, "setting oven.degrees: input should be a valid integer, not none"),
        ({"oven": {"minutes": float("inf")}}, "setting oven.minutes: input should be a finite number, not inf"),
        ({"bake": {"kind": "bread", "flour": "x"}}, "setting bake.flour: input should be a valid integer, unable to"),
        ({"oven": {"degrees": 240}, "bake": {"kind": "cake"}}, "a cake burns above 200 degrees"),
        ({"oven": 7}, "oven is a section, with settings of its own, not 7"),
        ({"bake": {"kind": "cakes"}}, "setting bake.kind: it is one of bread, cake, not 'cakes'; did you mean cake?"),
        ({"more": [{"sugar": 1}]}, "setting more.0.kind is missing; it is one of bread, cake"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(values: dict[str, Any], sentence: str) -> None:
    assert complaint(values).startswith(sentence)


def test_a_union_of_values_says_all_it_may_be() -> None:
    said = complaint({"oven": {"mode": "atuo"}})
    assert said.startswith("setting oven.mode: input should be a valid integer")
    assert said.endswith("or input should be 'auto', not 'atuo'")


def test_a_missing_setting_is_named() -> None:
    assert complaint({}, Town) == "setting name is missing"


def test_a_long_value_is_cut() -> None:
    assert len(complaint({"oven": {"degrees": "9" * 10_000}})) < 250


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Oven().degrees = 200  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("oven.degrees=200", 200),
        ("oven.degrees = 200", 200),
        ("oven.degrees=1e-3", 1e-3),
        ("oven.degrees=true", True),
        ("oven.degrees=[1, 2]", [1, 2]),
        ('oven.degrees="200"', "200"),
        ("oven.degrees=Mars, Texas", "Mars, Texas"),
        ("oven.degrees=a=b", "a=b"),
        ("oven.degrees=none", None),
        (r"oven.degrees=\n", "\n"),
        (r"oven.degrees=\n---\r\n\tx\q", "\n---\r\n\tx\\q"),
        (r"oven.degrees=a\\nb", r"a\nb"),
        (r'oven.degrees="\n"', "\n"),
        ("oven.degrees=", ""),
    ],
)
def test_an_override_is_read_as_toml_or_text(text: str, value: object) -> None:
    result = override({"oven": {"minutes": 3}}, [text])
    assert result == {"oven": {"minutes": 3, "degrees": value}}
    assert type(result["oven"]["degrees"]) is type(value)


def test_overrides_leave_the_values_they_were_given() -> None:
    values = {"oven": {"degrees": 180}}
    assert override(values, ["oven.degrees=200", "bake.kind=cake", "cook=Bo"]) == {
        "oven": {"degrees": 200},
        "bake": {"kind": "cake"},
        "cook": "Bo",
    }
    assert values == {"oven": {"degrees": 180}}


def test_none_turns_off_what_is_on_by_default() -> None:
    assert build_settings(Kitchen, override({}, ["oven.minutes=none"])).oven.minutes is None


@pytest.mark.parametrize("order", [["bake.kind=cake", "bake.sugar=1"], ["bake.sugar=1", "bake.kind=cake"]])
def test_a_new_kind_drops_the_settings_of_the_old_one(order: list[str]) -> None:
    values = {"bake": {"kind": "bread", "flour": 3}}
    assert build_settings(Kitchen, override(values, order)).bake == Cake(sugar=1)


def test_a_section_without_a_kind_is_of_the_default_kind() -> None:
    assert build_settings(Kitchen, override({}, ["bake.flour=3"])).bake == Bread(flour=3)
    assert complaint({"bake": {"sugar": 3}}) == "unknown setting bake.sugar; bake has flour, kind, yeast"


def test_the_same_kind_again_changes_nothing() -> None:
    values = {"bake": {"kind": "bread", "flour": 3}}
    assert override(values, ["bake.kind=bread"]) == values


@pytest.mark.parametrize("text", ["oven", "=3", "oven.=3", ".degrees=3", "oven..degrees=3", ""])
def test_what_is_no_override_is_told_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{text!r} is not an override; write section.key=value")):
        override({}, [text])


def test_a_value_has_no_keys() -> None:
    with pytest.raises(ConfigError, match=re.escape("cannot set cook.name: cook is a value, not a section")):
        override({"cook": "Ada"}, ["cook.name=Bo"])


@given(st.text(), st.text())
def test_any_override_is_applied_or_answered(key: str, value: str) -> None:
    try:
        assert override({"oven": {"degrees": 180}}, [f"{key}={value}"])
    except ConfigError as error:
        assert "override" in str(error) or "is a value, not a section" in str(error)


def test_a_file_is_read_with_its_overrides(tmp_path: Path) -> None:
    path = tmp_path / "kitchen.toml"
    path.write_bytes(b'\xef\xbb\xbfcook = "Bo"\r\n[oven]\r\ndegrees = 200\r\n')  # as an editor on Windows may save it
    assert read_settings(Kitchen, path, ["oven.degrees=100"]) == Kitchen(cook="Bo", oven=Oven(degrees=100))


def test_an_error_names_the_file_and_the_overrides(tmp_path: Path) -> None:
    path = tmp_path / "kitchen.toml"
    path.write_text("[oven]\ndegree = 200\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(f"{path}: unknown setting oven.degree; did you mean")):
        read_settings(Kitchen, path)
    with pytest.raises(ConfigError, match=re.escape(f"{path} with cook=Bo: unknown setting oven.degree;")):
        read_settings(Kitchen, path, ["cook=Bo"])


def test_a_missing_file_is_told_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "kitchen.toml").touch()
    with pytest.raises(ConfigError, match=r"there is no settings file .*kitchn\.toml; did you mean .*kitchen\.toml\?"):
        read_settings(Kitchen, tmp_path / "kitchn.toml")
    with pytest.raises(ConfigError, match=r"there is no settings file .*nothing\.toml$"):
        read_settings(Kitchen, tmp_path / "none" / "nothing.toml")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"[oven\ndegrees = 3", "is not valid TOML"), (b"cook = '\xff'", "is not UTF-8 text"), (None, "is a folder")],
)
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "kitchen.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        read_settings(Kitchen, path)


def kitchen_of(folder: Path, **files: str) -> Kitchen:
    """The settings of the last of these files."""
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return read_settings(Kitchen, folder / f"{[*files][-1]}.toml")


def test_a_file_that_extends_another_changes_what_it_names(tmp_path: Path) -> None:
    base = 'cook = "Bruno"\n[oven]\ndegrees = 120\nminutes = 5\n[bake]\nflour = 3\nyeast = 2\n'
    assert kitchen_of(tmp_path, a=base, b='extends = "a.toml"\n[oven]\nminutes = 7\n[bake]\nflour = 4\n') == Kitchen(
        cook="Bruno", oven=Oven(degrees=120, minutes=7), bake=Bread(flour=4, yeast=2)
    )


def test_files_extend_each_other_in_a_row(tmp_path: Path) -> None:
    files = {"a": 'cook = "A"\n[oven]\nminutes = 1', "b": 'extends = "a.toml"\ncook = "B"', "c": 'extends = "b.toml"'}
    assert kitchen_of(tmp_path, **files) == Kitchen(cook="B", oven=Oven(minutes=1))


def test_section_of_another_kind_replaces_the_extended_one(tmp_path: Path) -> None:
    assert kitchen_of(tmp_path, a="[bake]\nyeast = 2", b='extends = "a.toml"\n[bake]\nkind = "cake"\n') == Kitchen(
        bake=Cake()
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('extends = "none.toml"', "there is no settings file .*none.toml"),
        ("extends = 3", "b.toml: extends names one settings file, as text, not 3"),
        ('extends = "a.toml"', "a.toml extends b.toml, which extends it in turn; take one of the two lines out"),
    ],
)
def test_what_cannot_be_extended_is_said(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        kitchen_of(tmp_path, a='extends = "b.toml"', b=text)
