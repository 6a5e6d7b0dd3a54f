"""All files of a world: languages.csv, corpora, treebanks, NER, parallel text; NLI and QA come from
`questions`, topics from `topics`, candidates from `candidates`.

Notable: every file has its own random stream (`world/<seed>/<code>/<what>/<split>`), and within a language no
sentence of one split occurs in another, but for premises of inference; the unlabelled text is written last
and avoids the treebank and NER sentences, which translation pairs may repeat.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from bistil.errors import InputError
from bistil.miniworld.author import Author
from bistil.miniworld.candidates import write_choice
from bistil.miniworld.grammar import Grammar
from bistil.miniworld.lexicon import Lexicon
from bistil.miniworld.meaning import Clause
from bistil.miniworld.phrases import Word
from bistil.miniworld.questions import write_nli, write_qa
from bistil.miniworld.settings import SPLITS, TYPOLOGY, WorldSettings
from bistil.miniworld.stream import Stream
from bistil.miniworld.surface import surface, text
from bistil.miniworld.topics import write_topics
from bistil.miniworld.world import World
from bistil.settings.files import csv_text
from bistil.training.progress import Event, Listener, silent

SHORTEST, LONGEST, _PATIENCE = 4, 18, 1000


def write_world(folder: Path, settings: WorldSettings, listener: Listener = silent) -> None:
    """Write the whole world into `folder` (made if needed): equal settings give equal bytes on every
    platform.

    One event of stage "miniworld" is reported for each language.
    """
    world = World(settings.seed)
    grammars = {
        language.code: Grammar(language, Lexicon(settings, language)) for language in settings.languages
    }
    for name in ("corpora", "ud", "ner", "nli", "topic", "choice", "qa", "parallel"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write(folder / "languages.csv", _language_table(settings))
    for step, language in enumerate(settings.languages, start=1):
        _write_language(folder, settings, world, grammars[language.code])
        if language.code != settings.source:
            _write_parallel(folder, settings, world, grammars[settings.source], grammars[language.code])
        listener(Event("miniworld", step, len(settings.languages)))


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")


def _language_table(settings: WorldSettings) -> str:
    rows = [
        [
            *("code", "name", "family", "seen", "corpus", "treebank", "ner", "nli", "classification"),
            *("choice", "qa", "parallel", *TYPOLOGY),
        ]
    ]
    for language in settings.languages:
        code = language.code
        parallel = "" if code == settings.source else f"parallel/{settings.source}-{code}.tsv"
        tasks = (
            f"ud/{code}-{{split}}.conllu",
            f"ner/{code}-{{split}}.txt",
            f"nli/{code}-{{split}}.tsv",
            f"topic/{code}-{{split}}.tsv",
            f"choice/{code}-{{split}}.jsonl",
            f"qa/{code}-{{split}}.json",
        )
        typology = [_plain(getattr(language, name)) for name in TYPOLOGY]
        rows.append(
            [
                code,
                language.name,
                language.family,
                _plain(language.seen),
                f"corpora/{code}.txt",
                *tasks,
                parallel,
                *typology,
            ]
        )
    return csv_text(rows)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write_language(folder: Path, settings: WorldSettings, world: World, grammar: Grammar) -> None:
    code, seed, sizes = (
        grammar.language.code,
        f"world/{settings.seed}/{grammar.language.code}",
        settings.sizes,
    )
    used: set[str] = set()
    for split in SPLITS:
        author = Author(world, Stream(f"{seed}/treebank/{split}"))
        sentences = _fresh(grammar, author.sentence, getattr(sizes.treebank, split), used)
        _write(
            folder / "ud" / f"{code}-{split}.conllu",
            "".join(_conllu(f"{code}-{split}-{i}", s, grammar) for i, s in enumerate(sentences, 1)),
        )
    for split in SPLITS:
        author = Author(world, Stream(f"{seed}/ner/{split}"), known_only=split == "train")
        sentences = _fresh(grammar, author.names_sentence, getattr(sizes.ner, split), used)
        _write(
            folder / "ner" / f"{code}-{split}.txt", "".join(_ner(sentence, grammar) for sentence in sentences)
        )
    author = Author(world, Stream(f"{seed}/corpus"))
    lines = (
        text(surface(sentence, grammar))
        for sentence in _fresh(grammar, author.sentence, sizes.corpus, used, keep=False)
    )
    _write(folder / "corpora" / f"{code}.txt", "".join(f"{line}\n" for line in lines))
    write_nli(folder, grammar, world, settings)
    write_topics(folder, grammar, world, settings)
    write_choice(folder, grammar, world, settings)
    write_qa(folder, grammar, world, settings)


def _length(words: list[Word]) -> int:
    return sum(1 for word in words if word.upos != "PUNCT" and not word.empty)


def _fresh(
    grammar: Grammar, draw: Callable[[], Clause], count: int, used: set[str], *, keep: bool = True
) -> Iterator[list[Word]]:
    """Yield `count` sentences of 4 to 18 words that `used` does not hold; with `keep` they are added to
    it.
    """
    made = misses = 0
    while made < count:
        misses += 1
        if misses > _PATIENCE:
            raise InputError(
                "Expected sizes that this world can fill with different sentences, but"
                f" {grammar.language.code} ran dry after {made} of {count}. Lower the sizes."
            )
        words = grammar.sentence(draw())
        if SHORTEST <= _length(words) <= LONGEST:
            line = " ".join(word.form for word in words if not word.empty)
            if line not in used:
                if keep:
                    used.add(line)
                made += 1
                misses = 0
                yield words


def _conllu(name: str, words: list[Word], grammar: Grammar) -> str:
    """Return one CoNLL-U sentence, with multiword tokens for contractions and empty nodes for elided
    verbs.
    """
    number: dict[int, int] = {}
    for word in words:
        if not word.empty:
            number[id(word)] = len(number) + 1
    tokens = surface(words, grammar)
    lines = [f"# sent_id = {name}", f"# text = {text(tokens)}"]
    contracted = {id(token.words[0]): token for token in tokens if len(token.words) > 1}
    glued = {id(token.words[-1]) for token, after in pairwise(tokens) if after.words[0].upos == "PUNCT"}
    last = 0
    for word in words:
        if word.empty:
            head = number[id(word.head)] if word.head else 0
            lines.append(
                f"{last}.1\t{word.form}\t{word.lemma}\t{word.upos}\t_\t{word.feats}\t_\t_\t{head}:conj\t_"
            )
            continue
        last = number[id(word)]
        if id(word) in contracted:
            lines.append(f"{last}-{last + 1}\t{contracted[id(word)].form}" + "\t_" * 8)
        head = number[id(word.head)] if word.head else 0
        misc = "SpaceAfter=No" if id(word) in glued else "_"
        lines.append(
            f"{last}\t{word.form}\t{word.lemma}\t{word.upos}\t_\t{word.feats}\t{head}\t{word.rel}\t_\t{misc}"
        )
    return "\n".join(lines) + "\n\n"


def _ner(words: list[Word], grammar: Grammar) -> str:
    return "".join(f"{token.form} {token.words[0].tag}\n" for token in surface(words, grammar)) + "\n"


def _write_parallel(
    folder: Path, settings: WorldSettings, world: World, source: Grammar, other: Grammar
) -> None:
    """Write `parallel/<source>-<other>.tsv`: the same meanings in both languages, one pair a line, without
    header.
    """
    name = f"{source.language.code}-{other.language.code}"
    author = Author(world, Stream(f"world/{settings.seed}/parallel/{name}"))
    lines: list[str] = []
    while len(lines) < settings.sizes.parallel:
        meaning = author.sentence()
        pair = [grammar.sentence(meaning) for grammar in (source, other)]
        if all(SHORTEST <= _length(words) <= LONGEST for words in pair):
            left, right = (
                text(surface(words, grammar)) for words, grammar in zip(pair, (source, other), strict=True)
            )
            lines.append(f"{left}\t{right}\n")
    _write(folder / "parallel" / f"{name}.tsv", "".join(lines))
