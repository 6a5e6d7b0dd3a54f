"""Settings: what is in the file, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bistil.errors import InputError
from bistil.miniworld import describe, load_settings, parse_settings
from bistil.miniworld.settings import TYPOLOGY

FILE = Path(__file__).parents[2] / "data" / "miniworld.yaml"
WIDE = FILE.with_name("miniworld-wide.yaml")


def raw() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def test_the_world_has_the_languages_it_needs() -> None:
    settings = load_settings(FILE)
    families = {language.family for language in settings.languages}
    seen = {language.family for language in settings.languages if language.seen}
    unseen = {language.family for language in settings.languages if not language.seen}
    assert len(settings.languages) >= 10
    assert len(families) >= 3
    assert unseen & seen, "an unseen language with a seen relative"
    assert unseen - seen, "an unseen language without any"
    assert {language.order for language in settings.languages} == {"SVO", "SOV", "VSO"}
    assert {language.script for language in settings.languages} == {"latin", "cyrillic", "greek"}


@pytest.mark.parametrize("place", ["top", "sizes", "treebank", "sharing", "family", "language"])
def test_an_unknown_key_is_refused_by_name(place: str) -> None:
    found = raw()
    spots = {
        "top": found,
        "sizes": found["sizes"],
        "treebank": found["sizes"]["treebank"],
        "sharing": found["sharing"],
        "family": found["families"]["Arvan"],
        "language": found["languages"][0],
    }
    spots[place]["colour"] = 1
    with pytest.raises(InputError, match="colour"):
        parse_settings(found)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("code", "deu", "qaa..qtz"),
        ("code", "qaa", "its own code"),
        ("order", "OSV", "SOV"),
        ("family", "Atlantic", "Atlantic"),
        ("replaced", 1.5, "at least 0 and at most 1"),
        ("changes", ["p to f"], "p to f"),
        ("changes", ["(p>f"], "Sound changes"),
        ("case", "maybe", "true or false"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(key: str, value: object, says: str) -> None:
    found = raw()
    found["languages"][1][key] = value
    with pytest.raises(InputError, match=says):
        parse_settings(found)


def test_the_wide_world_has_the_groups_that_it_says() -> None:
    comment = WIDE.read_text(encoding="utf-8").split("seed:")[0]
    said = [
        set(re.findall(r"\bq[a-h][a-e]\b", line))
        for line in comment.splitlines()
        if " qa" in line or " qb" in line or " qd" in line
    ]
    settings = load_settings(WIDE)
    genus = {language.code: language.genus for language in settings.languages}
    seen, generator, of_base, of_generator, of_nobody = said
    assert set(genus) == set().union(*said)
    assert [len(group) for group in said] == [12, 14, 5, 5, 4]
    assert seen == {language.code for language in settings.languages if language.seen}
    genera = {
        code: {genus[other] for other in group} for code, group in (("seen", seen), ("read", generator))
    }
    assert {genus[code] for code in of_base} <= genera["seen"]
    assert {genus[code] for code in of_generator} <= genera["read"] - genera["seen"]
    assert not {genus[code] for code in of_nobody} & (genera["seen"] | genera["read"])
    types = {tuple(getattr(language, name) for name in TYPOLOGY) for language in settings.languages}
    assert len(types) == 40, "no two languages are of one type"


@pytest.mark.parametrize(
    ("genus", "says"),
    [
        ("Boric", "those of Arvan are ['Arvic', 'Arnic']"),
        ("Nowhere", "has the genus 'Nowhere'"),
    ],
)
def test_a_genus_of_another_family_is_refused(genus: str, says: str) -> None:
    found = yaml.safe_load(WIDE.read_text(encoding="utf-8"))
    found["languages"][1]["genus"] = genus
    with pytest.raises(InputError, match=re.escape(says)):
        parse_settings(found)
    found["genera"]["Boric"]["family"] = "Atlantic"
    with pytest.raises(InputError, match="Genus Boric has the family 'Atlantic'"):
        parse_settings(found)
    found["genera"]["Boric"]["changes"] = ["(p>f"]
    with pytest.raises(InputError, match="Sound changes"):
        parse_settings(found)


def test_sizes_sources_and_files_are_checked(tmp_path: Path) -> None:
    found = raw()
    found["sizes"]["treebank"]["dev"] = -1
    with pytest.raises(InputError, match=r"sizes\.treebank\.dev"):
        parse_settings(found)
    with pytest.raises(InputError, match="source"):
        parse_settings({**raw(), "source": "qzz"})
    with pytest.raises(InputError, match="lacks the key 'source'"):
        parse_settings({"seed": 1})
    with pytest.raises(InputError, match="there is none"):
        load_settings(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(InputError, match="YAML"):
        load_settings(tmp_path / "bad.yaml")


def test_describe_says_what_is_shared() -> None:
    rows = {row["code"]: row for row in describe(load_settings(FILE))}
    assert rows["qaa"]["cognates"] == rows["qaa"]["shared_names"] == 1.0
    assert rows["qab"]["cognates"] > 0.6
    assert rows["qba"]["cognates"] == 0.0
    assert rows["qba"]["loans"] == pytest.approx(0.12, abs=0.05)
    assert rows["qba"]["shared_names"] == pytest.approx(0.6, abs=0.1)
    assert rows["qbb"]["identical"] == 0.0, "another script shares no written word"
