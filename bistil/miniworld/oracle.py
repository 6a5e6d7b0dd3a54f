"""A translator that knows what was meant: the meanings of a file are drawn again and put into another
language's grammar.

Notable: its errors come from streams of their own, one a sentence, so a sentence is always translated alike.
"""

from collections.abc import Callable, Iterator, Sequence

from bistil.errors import InputError
from bistil.miniworld.grammar import Grammar
from bistil.miniworld.lexicon import Lexicon
from bistil.miniworld.meaning import Clause
from bistil.miniworld.questions import inferences, say
from bistil.miniworld.settings import WorldSettings
from bistil.miniworld.stream import Stream
from bistil.miniworld.topics import topics
from bistil.miniworld.world import World


def _meant(
    task: str, split: str, grammar: Grammar, world: World, settings: WorldSettings
) -> Iterator[tuple[str, Sequence[Clause]]]:
    """The texts of a file of a language, each with its meanings."""
    if task == "classification":
        texts = next(own for name, own in topics(grammar, world, settings) if name == split)
        yield from ((one.said, one.meanings) for one in texts)
        return
    for pair in next(own for name, own in inferences(grammar, world, settings) if name == split):
        yield from ((line, (meaning,)) for line, meaning in zip(pair.said, pair.meanings, strict=True))


def oracle(
    settings: WorldSettings,
    source: str,
    target: str,
    split: str,
    *,
    task: str = "nli",
    drop: float = 0.0,
    swap: float = 0.0,
    wrong: float = 0.0,
) -> Callable[[Sequence[str]], list[str]]:
    """Return a translator of the texts of a file of a language into another language of the world.

    Args:
        split: of which file.
        task: of which one, `nli` or `classification`.
        drop: the share of words that are left out; one word always stays.
        swap: the share of words that change places with the next one.
        wrong: the share of words in whose place another one of the file stands.

    Raises:
        InputError: for a language that the world has not; at a sentence that the file of this world has not.
    """
    by_code = {language.code: language for language in settings.languages}
    for code in (source, target):
        if code not in by_code:
            raise InputError(
                f"An oracle translates between the languages of its world, {', '.join(by_code)}, but"
                f" {code!r} is none of them."
            )
    theirs, ours = (Grammar(by_code[code], Lexicon(settings, by_code[code])) for code in (source, target))
    found: dict[str, str] = {}
    for line, meanings in _meant(task, split, theirs, World(settings.seed), settings):
        found.setdefault(line, " ".join(say(ours, one) for one in meanings))
    words = sorted({word for line in found.values() for word in line.split()})

    def spoilt(sentence: str) -> str:
        stream = Stream(f"oracle/{settings.seed}/{source}-{target}/{sentence}")
        told = [stream.pick(words) if stream.share(wrong) else one for one in found[sentence].split()]
        for place in range(len(told) - 1):
            if stream.share(swap):
                told[place : place + 2] = told[place + 1], told[place]
        return " ".join([one for one in told if not stream.share(drop)] or told[:1])

    def translate(sentences: Sequence[str]) -> list[str]:
        if strangers := [one for one in sentences if one not in found]:
            raise InputError(
                f"Sentences of the {split} file that this miniworld has for {source} were expected, but"
                f" {strangers[0]!r} is none: name the settings that the data folder was written from as"
                " `world` of the translator."
            )
        return [spoilt(one) for one in sentences]

    return translate
