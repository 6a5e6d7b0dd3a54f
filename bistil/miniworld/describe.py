"""What a world looks like before it is written: one row a language, for tables in notebooks."""

from typing import Any

from bistil.miniworld import concepts
from bistil.miniworld.lexicon import Lexicon
from bistil.miniworld.settings import TYPOLOGY, WorldSettings


def cognate(one: Lexicon, other: Lexicon, concept: str) -> bool:
    """Whether two languages inherited their words for a concept from the same older word."""
    return (
        one.origin[concept] == other.origin[concept] == "inherited"
        and one.root[concept] == other.root[concept]
    )


def describe(settings: WorldSettings) -> list[dict[str, Any]]:
    """Return one mapping for each language: code, name, family, seen, the typology vector, and its relation
    to the source language.

    `cognates`: share of content words that both inherited from the same proto-word; `loans`: share of content
    words borrowed across families; `identical`: share of content words written exactly alike; `shared_names`:
    share of names written exactly alike.
    """
    lexicons = {language.code: Lexicon(settings, language) for language in settings.languages}
    source = lexicons[settings.source]
    rows = []
    for language in settings.languages:
        lexicon = lexicons[language.code]
        inherited = [k for k in concepts.CONTENT if cognate(lexicon, source, k)]
        loans = [k for k in concepts.CONTENT if lexicon.origin[k] == "loan"]
        identical = [k for k in concepts.CONTENT if lexicon.words[k] == source.words[k]]
        names = [k for k in source.names if lexicon.names[k] == source.names[k]]
        rows.append(
            {
                "code": language.code,
                "name": language.name,
                "family": language.family,
                "seen": language.seen,
                **{name: getattr(language, name) for name in TYPOLOGY},
                "cognates": len(inherited) / len(concepts.CONTENT),
                "loans": len(loans) / len(concepts.CONTENT),
                "identical": len(identical) / len(concepts.CONTENT),
                "shared_names": len(names) / len(source.names),
            }
        )
    return rows
