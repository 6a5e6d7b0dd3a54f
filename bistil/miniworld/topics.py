"""Texts with the topic that they are about, for text classification.

Notable: a topic is what boosts a sixth of all concepts when sentences are drawn, in running text too; no word
belongs to one topic alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bistil.miniworld import concepts
from bistil.miniworld.author import Author
from bistil.miniworld.grammar import Grammar
from bistil.miniworld.meaning import Clause
from bistil.miniworld.questions import say
from bistil.miniworld.settings import SPLITS, WorldSettings
from bistil.miniworld.stream import Stream
from bistil.miniworld.world import World

SENTENCES = 3


class Topical(NamedTuple):
    """A text of several sentences: their meanings, what it is in one language, and its topic."""

    meanings: tuple[Clause, ...]
    said: str
    label: str


def write_topics(folder: Path, grammar: Grammar, world: World, settings: WorldSettings) -> None:
    """Write `topic/<code>-<split>.tsv`, `label<TAB>text` on each line; each topic is as frequent as the
    others.
    """
    for split, texts in topics(grammar, world, settings):
        path = folder / "topic" / f"{grammar.language.code}-{split}.tsv"
        content = "".join(f"{text.label}\t{text.said}\n" for text in texts)
        path.write_text(content, encoding="utf-8", newline="\n")


def topics(grammar: Grammar, world: World, settings: WorldSettings) -> Iterator[tuple[str, list[Topical]]]:
    """Yield the texts of a language's topic files, split by split; no text is there twice."""
    code, used = grammar.language.code, set[str]()
    for split in SPLITS:
        stream = Stream(f"world/{settings.seed}/{code}/topic/{split}")
        author, texts = Author(world, stream), list[Topical]()
        while len(texts) < getattr(settings.sizes.topic, split):
            topic = len(texts) % concepts.DOMAINS
            meanings = tuple(author.about(topic) for _ in range(SENTENCES))
            said = " ".join(say(grammar, one) for one in meanings)
            if said not in used:
                used.add(said)
                texts.append(Topical(meanings, said, f"topic{topic + 1}"))
        yield split, texts
