"""A system with something about it changed: what `variants` of an experiment file say.

Notable: a change is merged by key into the values that a system is made of, and null drops a term; whatever
is not named stays. The variant's sentence is made from the difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from bistil.errors import InputError
from bistil.settings.ranges import Settings
from bistil.settings.yaml import build
from bistil.systems.learning import Adaptation, Learning
from bistil.systems.recipe import Student
from bistil.systems.system import System


@dataclass(frozen=True, kw_only=True)
class Variant(Settings):
    """A system by what differs from another one.

    Attributes:
        of: the system or variant that it changes.
        recipe: what differs in how its student is made, as fields of `Student`; a term that is null is
            dropped.
        adaptation: what differs in what it wears for a language, as fields of `Adaptation`.
        learning: what differs in how it learns a task, as fields of `Learning`.
        merge: what differs from the experiment's `merge`, by its keys.
        model: the ready-made model, by its name under the experiment's `teachers`, that stands in the
            teacher's place at its own size.
        told: its own sentence for reports; by default one made from the difference.
    """

    of: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    adaptation: Mapping[str, Any] = field(default_factory=dict)
    learning: Mapping[str, Any] = field(default_factory=dict)
    merge: Mapping[str, Any] = field(default_factory=dict)
    model: str = field(default="", metadata={"added_later": True})
    told: str = ""


def changed(system: System, variant: Variant) -> System:
    """Return the system as the variant changes it.

    Raises:
        InputError: for a recipe of a system without a student, or values that fit no field.
    """
    if variant.recipe and system.student is None:
        raise InputError(
            f"{variant.of} is no student, so a variant of it has no recipe to change.", at=("recipe",)
        )
    parts: dict[str, Any] = {}
    for name, kind, said in (
        ("student", Student, variant.recipe),
        ("adaptation", Adaptation, variant.adaptation),
        ("learning", Learning, variant.learning),
    ):
        if said:
            key = "recipe" if name == "student" else name
            try:
                parts[name] = adjusted(kind, getattr(system, name), said, f"variant of {variant.of}")
            except InputError as error:
                error.at = (key, *error.at)
                raise
    old, new = system.student, parts.get("student")
    if old is not None and new is not None and new != old:
        # what it starts from is an artefact of its own, so that the recipe of all that is learnt is the same
        named = old.named if replace(new, start_from=old.start_from) == old else ""
        parts["student"] = replace(new, named=named, title=_title(variant))
    told = variant.told or f"As {variant.of}, but {_difference(variant)}."
    merge = {**system.merge, **variant.merge}
    model = variant.model or system.model
    return replace(system, **parts, merge=merge, model=model, told=told, colour="", ours=False)


def adjusted(kind: type, value: Any, change: Mapping[str, Any], where: str) -> Any:
    """A settings class' value with something changed, key by key; `where` is named in errors.

    Raises:
        InputError: for a change that fits no field.
    """
    return build(kind, _merged(_plain(value), change), where)


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as the mappings and lists that they are read from."""
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (tuple, list)) else value


def _merged(base: Any, change: Any) -> Any:
    """The change over the base, key by key; what is null there is dropped from a mapping of terms."""
    if not isinstance(change, Mapping) or not isinstance(base, Mapping):
        return change
    found = dict(base)
    for key, value in change.items():
        if key == "terms" and isinstance(value, Mapping):
            old = found.get(key, {})
            terms = {name: _merged(old.get(name), term) for name, term in value.items()}
            found[key] = {name: one for name, one in {**old, **terms}.items() if one is not None}
        else:
            found[key] = _merged(found.get(key), value)
    return found


def _difference(variant: Variant) -> str:
    """What a variant says, in words: layers bottom, without the term soft, part outer for the language."""
    told = [f"the model {variant.model}"] if variant.model else []
    task = " for the task" if variant.adaptation or "part" in variant.learning else ""
    parts = (
        (variant.recipe, ""),
        (variant.adaptation, " for the language"),
        (variant.learning, task),
        (variant.merge, ""),
    )
    for said, where in parts:
        for key, value in said.items():
            if key == "terms" and isinstance(value, Mapping):
                told += [
                    f"without the term {name}" if term is None else f"with the term {name} ({_words(term)})"
                    for name, term in value.items()
                ]
            else:
                name = key.replace("_", " ")
                if isinstance(value, bool):
                    what = name if value else f"not {name}"
                else:
                    what = f"no {name}" if value is None or value == [] else f"{name} {_words(value)}"
                told.append(what + where)
    return ", ".join(told) or "under another name"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_words(one)}" for key, one in value.items())
    return " ".join(map(_words, value)) if isinstance(value, (list, tuple)) else str(value)


def _title(variant: Variant) -> str:
    return f"As {variant.of}, but {_difference(variant)}"
