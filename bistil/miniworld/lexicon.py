"""Words: proto-lexemes of a family, its branches, sound changes, replacement, loans, names and affixes.

Notable: each proto-word has its own random stream, so adding a concept or a language leaves all other words
as they were; sound changes are ordered rewrite rules applied to every inherited word, which is what makes
cognates regular."""

import re
from functools import cache

from bistil.errors import InputError
from bistil.miniworld import concepts
from bistil.miniworld.settings import FamilySettings, GenusSettings, LanguageSettings, WorldSettings
from bistil.miniworld.stream import Stream

NAME_COUNTS = {"given": 44, "family": 44, "place": 48, "firm": 24, "event": 12}
AFFIXES = ("Plur", "Acc", "Dat", "Gen", "Loc", "Past", "Verb.Plur", "Inf", "Adj.Plur", "Pres")
_NAME_SOUNDS = FamilySettings(
    consonants="b d f g k l m n p r s t v z", vowels="a e i o u", codas="n r l s", closed=45
)
_LATIN = "abcdefghijklmnopqrstuvwxyzčšžöü"
_SCRIPTS = {
    "latin": str.maketrans({}),
    "cyrillic": str.maketrans(_LATIN, "абцдефгхијклмнопърстувњшызчщжөү"),
    "greek": str.maketrans(_LATIN, "αβψδεφγχιξκλμνοπηρστυωθξηζψξζωυ"),
}
_PATIENCE = 1000
_ROLE_NAMES = ("smith", "baker", "miller", "hunter", "weaver", "fisher")


def make_word(sounds: FamilySettings, stream: Stream, syllables: int) -> str:
    """Return a new word of the given number of syllables (each C V or C V C)."""
    consonants, vowels, codas = sounds.consonants.split(), sounds.vowels.split(), sounds.codas.split()
    word = "" if syllables > 1 and stream.chance(15) else stream.pick(consonants)
    for index in range(syllables):
        word += (stream.pick(consonants) if index else "") + stream.pick(vowels)
        if stream.chance(sounds.closed):
            word += stream.pick(codas)
    return word


def apply_changes(word: str, changes: tuple[str, ...]) -> str:
    """Return the word after the ordered sound changes; a change that would erase it is skipped."""
    for change in changes:
        pattern, replacement = change.split(">")
        word = re.sub(pattern, replacement, word) or word
    return word


def _distinct(forms: dict[str, str], sounds: FamilySettings, seed: str) -> dict[str, str]:
    """Lengthen later forms until no two concepts are homonyms."""
    taken: set[str] = set()
    result: dict[str, str] = {}
    for key, form in forms.items():
        stream = Stream(f"{seed}/distinct/{key}")
        while form in taken or len(form) < 2:
            form += stream.pick(sounds.consonants.split()) + stream.pick(sounds.vowels.split())
        taken.add(form)
        result[key] = form
    return result


def _syllables(key: str, stream: Stream) -> int:
    if key in concepts.FUNCTION:
        return 1
    return (1, 2, 2, 2, 3)[stream.below(5)] if key in concepts.CONTENT else (2, 2, 3)[stream.below(3)]


def _name_keys() -> list[str]:
    return [f"{kind}:{index}" for kind, count in NAME_COUNTS.items() for index in range(count)]


def _make_all(keys: list[str], sounds: FamilySettings, seed: str) -> dict[str, str]:
    forms = {}
    for key in keys:
        stream = Stream(f"{seed}/{key}")
        forms[key] = make_word(sounds, stream, _syllables(key, stream))
    return _distinct(forms, sounds, seed)


@cache
def _proto(world: str, family: str, sounds: FamilySettings) -> dict[str, str]:
    keys = [*concepts.FUNCTION, *concepts.CONTENT, *_name_keys()]
    return _make_all(keys, sounds, f"{world}/proto/{family}")


@cache
def _branch(world: str, name: str, genus: GenusSettings, sounds: FamilySettings) -> dict[str, str]:
    """The words that a genus starts from: the family's after its sound changes, or words of its own."""
    forms = {}
    for key, form in _proto(world, genus.family, sounds).items():
        forms[key] = apply_changes(form, genus.changes)
        if _is_own(world, name, genus, key):
            stream = Stream(f"{world}/genus/{name}/{key}")
            forms[key] = make_word(sounds, stream, _syllables(key, stream))
    return _distinct(forms, sounds, f"{world}/genus/{name}")


def _is_own(world: str, name: str, genus: GenusSettings, key: str) -> bool:
    """Whether a genus has a word of its own; names, whose keys have a colon, are the family's."""
    return ":" not in key and Stream(f"{world}/genus/{name}/replace/{key}").share(genus.replaced)


def _ancestors(world: WorldSettings, language: LanguageSettings) -> dict[str, str]:
    """The words that a language's own changes start from, its genus' or its family's."""
    seed, sounds = f"world/{world.seed}", world.families[language.family]
    if not language.genus:
        return _proto(seed, language.family, sounds)
    return _branch(seed, language.genus, world.genus(language), sounds)


@cache
def _international(world: str) -> dict[str, str]:
    return _make_all(_name_keys(), _NAME_SOUNDS, f"{world}/names")


class Lexicon:
    """All words of one language: base forms of concepts and names (in its script), affixes, and inflected
    forms.

    Attributes:
        words: concept -> base form, in the language's script.
        spoken: concept -> base form before transliteration (Latin letters), for comparing languages.
        origin: concept -> "inherited", "replaced" or "loan".
        root: concept -> the family whose proto-word an inherited word comes from, or the genus that made it.
        names: `kind:index` -> form, in the language's script, not capitalised.
        shared: the names taken in their international form.
    """

    def __init__(self, world: WorldSettings, language: LanguageSettings) -> None:
        self.language = language
        seed = f"world/{world.seed}"
        sounds = world.families[language.family]
        own = f"{seed}/{language.code}"
        proto, genus = _ancestors(world, language), world.genus(language)
        self._changes = (*genus.changes, *language.changes)
        donor = _donor(world, language)
        loans = _spoken_of(world, donor) if donor and language.code != world.source else {}
        self.origin: dict[str, str] = {}
        spoken: dict[str, str] = {}
        for key in (*concepts.FUNCTION, *concepts.CONTENT):
            spoken[key], self.origin[key] = self._word(
                key, seed, own, proto, loans, sounds, world.sharing.loans
            )
        self.root = {
            key: language.genus if _is_own(seed, language.genus, genus, key) else language.family
            for key in spoken
        }
        self.spoken = _distinct(spoken, sounds, own)
        script = _SCRIPTS[language.script]
        self.words = {key: word.translate(script) for key, word in self.spoken.items()}
        self.names, self.shared = self._names(
            seed, own, proto, world.sharing.names, is_source=language.code == world.source
        )
        self.affixes = self._affixes(seed, sounds)
        self._forms: dict[tuple[str, str], str] = {}

    def _word(
        self,
        key: str,
        seed: str,
        own: str,
        proto: dict[str, str],
        loans: dict[str, str],
        sounds: FamilySettings,
        share: float,
    ) -> tuple[str, str]:
        if key in loans and key in concepts.LOANABLE and Stream(f"{seed}/loan/{key}").share(share):
            return loans[key], "loan"
        stream = Stream(f"{own}/replace/{key}")
        if stream.share(self.language.replaced):
            return make_word(sounds, stream, _syllables(key, stream)), "replaced"
        return apply_changes(proto[key], self.language.changes), "inherited"

    def _names(
        self, seed: str, own: str, proto: dict[str, str], share: float, *, is_source: bool
    ) -> tuple[dict[str, str], frozenset[str]]:
        script = _SCRIPTS[self.language.script]
        names, shared = {}, []
        for key, form in _international(seed).items():
            if is_source or Stream(f"{own}/shared/{key}").share(share):
                names[key] = form.translate(script)
                shared.append(key)
            else:
                names[key] = apply_changes(proto[key], self.language.changes).translate(script)
        for index, role in enumerate(_ROLE_NAMES):
            names[f"family:{6 * index + 5}"] = self.words[role]
            names[f"family:{6 * index + 2}"] = names[f"place:{4 * index + 1}"]
        replaced = {f"family:{6 * index + 5}" for index in range(len(_ROLE_NAMES))}
        return names, frozenset(shared) - replaced

    def _affixes(self, seed: str, sounds: FamilySettings) -> dict[str, str]:
        suffix = self.language.affix == "suffix"
        taken: set[str] = set()
        affixes = {}
        for key in AFFIXES:
            stream = Stream(f"{seed}/affix/{self.language.family}/{key}")
            for _ in range(_PATIENCE):
                consonant, vowel = stream.pick(sounds.consonants.split()), stream.pick(sounds.vowels.split())
                affix = apply_changes(vowel + consonant if suffix else consonant + vowel, self._changes)
                if affix not in taken and len(affix) > 1:
                    break
            else:
                raise InputError(
                    f"Sounds for {len(AFFIXES)} different affixes of {self.language.code} were expected, but"
                    f" {len(taken)} are all that were found. Give {self.language.family} more consonants or"
                    " vowels."
                )
            taken.add(affix)
            affixes[key] = affix.translate(_SCRIPTS[self.language.script])
        return affixes

    def attach(self, stem: str, affixes: tuple[str, ...]) -> str:
        """Return the stem with the named affixes, nearest first; a stem vowel before a vowel is dropped."""
        for name in affixes:
            affix = self.affixes[name]
            if self.language.affix == "prefix":
                stem = affix + stem
            else:
                stem = (
                    stem[:-1] if len(stem) > 2 and stem[-1] in _VOWELS and affix[0] in _VOWELS else stem
                ) + affix
        return stem

    def inflect(self, key: str, affixes: tuple[str, ...]) -> str:
        """Return the inflected form of a concept."""
        if not affixes:
            return self.words[key]
        tag = (key, "+".join(affixes))
        form = self._forms.get(tag)
        if form is None:
            form = self._forms[tag] = self.attach(self.words[key], affixes)
        return form


_VOWELS = frozenset(
    "aeiouöüy" + "".join(vowel.translate(table) for table in _SCRIPTS.values() for vowel in "aeiouöü")
)


def _donor(world: WorldSettings, language: LanguageSettings) -> LanguageSettings | None:
    """Return the language that words are borrowed from: the source, or for its own family the first language
    outside it.
    """
    source = next(item for item in world.languages if item.code == world.source)
    if source.family != language.family:
        return source
    return next((item for item in world.languages if item.family != language.family), None)


def _spoken_of(world: WorldSettings, donor: LanguageSettings) -> dict[str, str]:
    """Return the donor's inherited words, before its own loans (so that borrowing has no circles)."""
    proto = _ancestors(world, donor)
    return {key: apply_changes(proto[key], donor.changes) for key in concepts.CONTENT}
