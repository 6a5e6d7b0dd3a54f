"""Streams, sound changes, relatedness."""

import dataclasses
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bistil.errors import InputError
from bistil.miniworld import concepts, load_settings
from bistil.miniworld.describe import cognate
from bistil.miniworld.lexicon import Lexicon, apply_changes
from bistil.miniworld.settings import GenusSettings, Sharing
from bistil.miniworld.stream import Stream, Weighted

WORLD = load_settings(Path(__file__).parents[2] / "data" / "miniworld.yaml")
LEXICONS = {language.code: Lexicon(WORLD, language) for language in WORLD.languages}


def similarity(one: str, other: str) -> float:
    sample = concepts.CONTENT[:80]
    a, b = LEXICONS[one].spoken, LEXICONS[other].spoken
    return mean(SequenceMatcher(None, a[key], b[key], autojunk=False).ratio() for key in sample)


def test_streams_are_pinned_and_independent() -> None:
    stream = Stream("a")
    assert [stream.below(1000) for _ in range(5)] == [373, 936, 62, 646, 503]
    assert Stream("b").below(2**40) != Stream("a").below(2**40) == Stream("a").below(2**40)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.text(max_size=5))
def test_weighted_draws_follow_the_weights(weights: list[int], name: str) -> None:
    items = [str(index) for index in range(len(weights))]
    table, stream = Weighted(items, weights), Stream(name)
    counts = np.bincount([int(stream.weighted(table)) for _ in range(600)], minlength=len(items)) / 600
    assert np.allclose(counts, np.array(weights) / sum(weights), atol=0.12)


def test_sound_changes_are_regular_and_ordered() -> None:
    assert apply_changes("patap", ("^p>f", "a$>e")) == "fatap"
    assert apply_changes("pata", ("^p>f", "f>h", "a$>e")) == "hate"
    assert apply_changes("h", ("^h>",)) == "h"
    lexicon, source = LEXICONS["qab"], LEXICONS["qaa"]
    inherited = [key for key in concepts.CONTENT if lexicon.origin[key] == "inherited"]
    regular = [
        key
        for key in inherited
        if lexicon.spoken[key] == apply_changes(source.spoken[key], lexicon.language.changes)
    ]
    assert len(regular) > 0.9 * len(inherited)


def test_relatives_are_more_alike_than_strangers() -> None:
    family = {language.code: language.family for language in WORLD.languages}
    pairs = list(combinations(family, 2))
    within = [similarity(a, b) for a, b in pairs if family[a] == family[b]]
    between = [similarity(a, b) for a, b in pairs if family[a] != family[b]]
    assert min(within) > max(between)


def test_sharing_rates_are_settable() -> None:
    for share in (0.0, 1.0):
        world = dataclasses.replace(WORLD, sharing=Sharing(names=share, loans=share))
        source, other = (Lexicon(world, WORLD.languages[index]) for index in (0, 4))
        same = mean(
            source.names[key] == other.names[key] for key in source.names if not key.startswith("family")
        )
        loans = mean(other.origin[key] == "loan" for key in concepts.LOANABLE)
        assert loans == share
        assert abs(same - share) < 0.01


def test_no_two_concepts_are_homonyms() -> None:
    for lexicon in LEXICONS.values():
        assert len(set(lexicon.spoken.values())) == len(lexicon.spoken)
        assert len(set(lexicon.affixes.values())) == len(lexicon.affixes)


def test_languages_of_one_genus_are_nearer_than_those_of_one_family() -> None:
    world = load_settings(Path(__file__).parents[2] / "data" / "miniworld-wide.yaml")
    of = {language.code: language for language in world.languages}
    lexicons = {code: Lexicon(world, language) for code, language in of.items()}
    shares: dict[str, list[float]] = {"genus": [], "family": [], "none": []}
    for a, b in combinations(of, 2):
        kin = "genus" if of[a].genus == of[b].genus else "family" if of[a].family == of[b].family else "none"
        same = [cognate(lexicons[a], lexicons[b], key) for key in concepts.CONTENT]
        shares[kin].append(sum(same) / len(same))
    assert mean(shares["genus"]) > mean(shares["family"]) + 0.15
    assert min(shares["family"]) > max(shares["none"]) == 0
    cousins = lexicons["qdc"], lexicons["qdd"]
    own = [key for key in concepts.CONTENT if cousins[0].root[key] == "Davic"]
    assert 0.15 < len(own) / len(concepts.CONTENT) < 0.35
    assert all(cousins[0].root[key] == cousins[1].root[key] for key in own)
    changed = [key for key in own if all(one.origin[key] == "inherited" for one in cousins)]
    first, second = (one.spoken for one in cousins)
    alike = [SequenceMatcher(None, first[key], second[key], autojunk=False).ratio() for key in changed]
    assert mean(alike) > 0.6, "words of the genus' own came down to both"


def test_genera_elsewhere_leave_a_language_as_it_is() -> None:
    genus = GenusSettings(family="Arvan", replaced=0.5, changes=("a$>e",))
    first, second, *others = WORLD.languages
    world = dataclasses.replace(
        WORLD, genera={"New": genus}, languages=(first, dataclasses.replace(second, genus="New"), *others)
    )
    same, other = Lexicon(world, others[0]), Lexicon(world, world.languages[1])
    assert same.words == LEXICONS[others[0].code].words
    assert same.affixes == LEXICONS[others[0].code].affixes
    assert other.words != LEXICONS[second.code].words


def test_a_family_with_too_few_sounds_is_refused() -> None:
    language = WORLD.languages[0]
    poor = dataclasses.replace(WORLD.families[language.family], consonants="b d", vowels="a i")
    world = dataclasses.replace(WORLD, families={**WORLD.families, language.family: poor})
    with pytest.raises(InputError, match="more consonants or vowels"):
        Lexicon(world, language)
