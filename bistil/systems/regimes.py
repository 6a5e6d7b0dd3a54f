"""From which examples a system learns its task: `system@regime` (thesis section 6.2).

Notable: a regime only says which rows a system's `Learning` has, so a system under one is a system like any
other, and what is made does not depend on the regime's name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bistil.errors import InputError
from bistil.settings.ranges import Count, Settings
from bistil.systems.rows import Rows, Then
from bistil.systems.system import System


@dataclass(frozen=True, kw_only=True)
class Regime(Settings):
    """Where the examples of a task come from.

    Attributes:
        sources: languages whose train files are read, `source` and `target` among them; the source alone
            where nothing is said, none of them for an empty list.
        total: how many of their examples are read in all, the same number of each; None for all.
        shots: how many labelled examples of a target are read besides.
        of: whether shots are those of the target, or of all the task's targets.
        upsample: how often a shot counts.
        overlap: what is done with a shot that stands in the test file too: `refuse`, or `drop`.
        translated: for which languages the source's examples are translated and read besides: the `target`,
            or all the task's `targets`.
        translator: by whom, a name under `translators`; the first one where nothing is said.
        validate_on: what chooses the checkpoint: the `source`'s dev file, its `translated` ones, or `both`.
        translate_test: whether nothing is learnt anew and the test file is translated into the source
            language instead.
        expose: whether each batch of the source is read in the language module of the source, of the
            `target`, or of one of all the task's `targets`, at random.
        then: how the finished zero-shot model is tuned further on the shots alone, instead of reading them
            with the source's examples.
        told: its own words for reports; by default made from the rest.
    """

    sources: tuple[str, ...] | None = None
    total: Count | None = None
    shots: Count | None = None
    of: Literal["target", "targets"] = "target"
    upsample: Count = 10
    overlap: Literal["refuse", "drop"] = "refuse"
    translated: Literal["target", "targets"] | None = None
    translator: str = ""
    validate_on: Literal["source", "translated", "both"] = "source"
    translate_test: bool = False
    expose: Literal["target", "targets"] | None = field(default=None, metadata={"added_later": True})
    then: Then | None = None
    told: str = field(default="")

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = {name for name in ("sources", "shots", "translated", "expose") if getattr(self, name)}
        if self.translate_test:
            asked.add("translate_test")
        if not asked:
            raise InputError(
                "A regime needs `sources`, `shots`, `translated`, `expose` or `translate_test`: without any"
                " of them there is nothing to learn from beyond the zero-shot regime, which needs no name."
            )
        for alone, needs in (("translate_test", set()), ("then", {"shots"})):
            if getattr(self, alone) and asked - {alone} != needs:
                told = " and ".join(sorted(needs)) or "no examples"
                raise InputError(
                    f"`{alone}` goes with {told} alone, but the regime also has"
                    f" {', '.join(sorted(asked - {alone} - needs)) or 'none'}.",
                    at=(alone,),
                )
        if self.total is not None and self.total < len(self.sources or ()) + (self.sources is None):
            raise InputError(
                "At least one example of each of `sources` was expected in `total`.", at=("total",)
            )
        if self.total is not None and self.sources == ():
            raise InputError(
                "`total` is a number of examples of `sources`, of which there are none.", at=("total",)
            )
        if self.sources is not None and len(set(self.sources)) < len(self.sources):
            raise InputError(
                f"Each of `sources` was expected once, but got {', '.join(self.sources)}.", at=("sources",)
            )
        usual = type(self).__dataclass_fields__
        of_shots = [
            name for name in ("of", "upsample", "overlap") if getattr(self, name) != usual[name].default
        ]
        if of_shots and not self.shots:
            raise InputError(f"`{of_shots[0]}` is about `shots`, of which there are none.", at=(of_shots[0],))
        if self.translator and not self.translates:
            raise InputError(
                "`translator` needs `translated` or `translate_test`, which say what is translated.",
                at=("translator",),
            )
        if self.expose and self.sources is not None and "source" not in self.sources:
            raise InputError(
                "`expose` is for batches of the source, which is not among `sources`.", at=("expose",)
            )
        if self.validate_on != "source" and not self.translated:
            raise InputError(
                f"`validate_on: {self.validate_on}` needs `translated`, which says for whom.",
                at=("validate_on",),
            )

    @property
    def translates(self) -> str:
        """Which of its settings asks for a translation; "" where none does."""
        return "translated" if self.translated else "translate_test" if self.translate_test else ""


BUILT_IN: Mapping[str, Regime] = {"in-language": Regime(sources=("target",))}
"""Regimes that every experiment has, beside `sequential-K`: K shots after zero-shot training."""
IN_ORDER = re.compile(r"sequential-([1-9][0-9]{0,5})")


def find(name: str, regimes: Mapping[str, Regime]) -> Regime:
    """Return the regime of a name: an experiment's own, or one that every experiment has.

    Raises:
        InputError: where there is none.
    """
    if name in regimes or name in BUILT_IN:
        return regimes.get(name) or BUILT_IN[name]
    if few := IN_ORDER.fullmatch(name):
        return Regime(shots=int(few[1]), then=Then())
    known = ", ".join(dict.fromkeys((*regimes, *BUILT_IN, "sequential-K")))
    raise InputError(f"A regime, one of {known}, was expected after the '@', but got {name!r}.")


def under(system: System, regime: Regime, translator: str) -> System:
    """Return a system that learns its task under a regime.

    Args:
        translator: the name of who translates, where the regime says none.

    Raises:
        InputError: where the system can have none: a guess, a method that cannot be tuned further, one that
            wears nothing to be exposed to.
    """
    by = regime.translator or translator
    learning, told = system.learning, f"{system.told} {regime.told or _words(regime)}"
    if system.guesses:
        raise InputError("A guess learns from nothing, so it has no regime: leave the '@' out.")
    if regime.translate_test:
        return replace(system, told=told, ours=False, colour="", translated_test=by)
    shots = (
        Rows(language=regime.of, most=regime.shots, drawn=True, overlap=regime.overlap)
        if regime.shots
        else None
    )
    if regime.then is not None and shots is not None:
        if learning.peft or learning.spiel or learning.adapter or learning.through == "both":
            raise InputError(
                "`then` tunes an SFT or all weights further, which"
                f" {learning.told} is not: take another system."
            )
        return replace(system, told=told, ours=False, colour="", then=regime.then, further=(shots,))
    codes = ("source",) if regime.sources is None else regime.sources
    rows = [Rows(language=code, most=_share(regime.total, codes, code)) for code in codes]
    first = "source" if "source" in codes or not codes else codes[0]
    validated = [Rows(language=first, split="dev")] if regime.validate_on != "translated" else []
    if regime.translated:
        rows.append(Rows(language=regime.translated, translated=by))
        if regime.validate_on != "source":
            validated.append(Rows(language=regime.translated, split="dev", translated=by))
    if shots is not None:
        rows.append(replace(shots, upsample=regime.upsample))
    usual = validated == [Rows(language=first, split="dev")] and first in codes
    learning = replace(
        learning,
        rows=tuple(rows),
        validated=() if usual else tuple(validated),
        exposed=regime.expose or learning.exposed,
    )
    return replace(system, told=told, ours=False, colour="", learning=learning)


def _share(total: int | None, codes: tuple[str, ...], code: str) -> int | None:
    """How many examples one of some languages has of a total; the first ones have the remainder."""
    if total is None:
        return None
    return total // len(codes) + (codes.index(code) < total % len(codes))


def _words(regime: Regime) -> str:
    """What a regime is, a sentence."""
    if regime.translate_test:
        return "Its test file is translated into the source language, which the zero-shot model reads."
    of = {"target": "the target", "targets": "each target"}
    shots = f"{regime.shots} examples of {of[regime.of]}"
    if regime.then is not None:
        return f"Its zero-shot model is tuned further on {shots}."
    codes = ("source",) if regime.sources is None else regime.sources
    total = f", {regime.total} in all" if regime.total else ""
    names = {"source": "the source", "target": "the target"}
    parts = [f"examples of {' and '.join(names.get(code, code) for code in codes)}{total}"] if codes else []
    if regime.translated:
        parts.append(f"the source's translated for {of[regime.translated]}")
    if regime.shots:
        parts.append(shots + (f", each {regime.upsample} times" if regime.upsample > 1 else ""))
    worn = f" Batches of the source wear its module or that of {of[regime.expose]}." if regime.expose else ""
    return f"It learns its task from {'; '.join(parts)}.{worn}"
