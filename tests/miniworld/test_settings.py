"""Settings: what is in the file, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bistil.errors import InputError
from bistil.miniworld import describe, load_settings, parse_settings

FILE = Path(__file__).parents[2] / "data" / "miniworld.yaml"


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
