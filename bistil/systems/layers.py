"""Which layers of a teacher belong to a student's: the maps by name, and the depth that a factor gives.

Notable: a layer map is computed here and nowhere else, and handed on.
"""

import re
from itertools import pairwise
from typing import Literal

from bistil.errors import InputError

Pairs = tuple[tuple[int, int], ...]
"""Layers that belong together as (student's, teacher's), both counted from 1."""
Part = Literal["outer", "middle"]
"""A part of an encoder: embeddings with the first and the last quarter of its layers, or those between."""
PARTS = r"embeddings|head|layer:[1-9]\d*"
"""How settings name the parts of a masked LM that students of a family can share."""
NAMED = ("uniform", "odd", "odd-last", "top", "bottom", "last")
EVEN = ("uniform", "odd", "odd-last")
"""The maps whose steps are even, which need a depth that divides the teacher's."""
LayerMap = str
"""A named map, or the pairs themselves as in `1-2 2-4 3-12`."""


def layer_pairs(layers: LayerMap, teacher: int, student: int) -> Pairs:
    """Return which of the teacher's layers each of the student's layers is paired with.

    With N teacher layers, M student layers and r = N / M the student's layer m is paired with r m
    (`uniform`), r m - (r - 1) (`odd`), the same but N for the last (`odd-last`), m + N - M (`top`) or m
    (`bottom`); `last` pairs M with N alone. States count from the embedding layer, 0, which no map names.

    Raises:
        InputError: for an unknown name, a depth that the map does not divide, or pairs outside the models.
    """
    if re.fullmatch(r"\d+-\d+( \d+-\d+)*", layers):
        pairs = tuple((int(m), int(n)) for m, n in (pair.split("-") for pair in layers.split()))
        if any(not (1 <= m <= student and 1 <= n <= teacher) for m, n in pairs):
            raise InputError(
                f"Pairs of a student's layer from 1 to {student} and a teacher's from 1 to {teacher} were"
                f" expected in a layer map, but got {layers}."
            )
        if any(m >= later[0] or n >= later[1] for (m, n), later in pairwise(sorted(pairs))):
            raise InputError(
                "Pairs that do not cross were expected in a layer map, each layer of the student and of the"
                f" teacher once, but got {layers}."
            )
        return pairs
    if layers not in NAMED:
        raise InputError(
            f"A layer map {', '.join(NAMED)}, or pairs as in 1-2 2-4, was expected, but got {layers!r}."
        )
    if not 1 <= student <= teacher:
        raise InputError(f"A student of 1 to {teacher} layers was expected, but it has {student}.")
    if layers in EVEN and teacher % student:
        divisors = [number for number in range(1, teacher + 1) if teacher % number == 0]
        raise InputError(
            f"The layer map `{layers}` needs a number of layers that divides the teacher's {teacher}, one of"
            f" {divisors}, but the student has {student}. Take `top`, `bottom`, `last` or pairs."
        )
    own, r = range(1, student + 1), teacher // student
    match layers:
        case "uniform":
            return tuple((m, r * m) for m in own)
        case "odd":
            return tuple((m, r * m - r + 1) for m in own)
        case "odd-last":
            return (*((m, r * m - r + 1) for m in own[:-1]), (student, teacher))
        case "top":
            return tuple((m, m + teacher - student) for m in own)
        case "bottom":
            return tuple((m, m) for m in own)
    return ((student, teacher),)


def start_layers(layers: LayerMap, teacher: int, lrf: int) -> tuple[int, ...]:
    """Return the teacher's layers, from 1, that the layers of a student start from, in the student's order.

    Raises:
        InputError: as `layer_pairs`, and for a map that leaves a layer of the student without one.
    """
    depth = student_depth(teacher, lrf)
    if layers in EVEN and teacher % lrf:
        divisors = [number for number in range(1, teacher + 1) if teacher % number == 0]
        raise InputError(
            "The layer reduction factor must divide the teacher's number of layers for the layer map"
            f" `{layers}`; {lrf} does not divide {teacher}. Choose one of {divisors}, or the map `top` or"
            " `bottom`."
        )
    pairs = dict(layer_pairs(layers, teacher, depth))
    if sorted(pairs) != list(range(1, depth + 1)):
        raise InputError(
            f"A start for each of the student's {depth} layers was expected, but the layer map {layers!r}"
            f" names {len(pairs)} of them. Take `uniform`, `odd`, `top`, `bottom` or a pair for each layer."
        )
    return tuple(pairs[layer] for layer in range(1, depth + 1))


def student_depth(teacher: int, lrf: int) -> int:
    """Return the number of layers of a student of a teacher with `teacher` layers: their quotient, rounded
    down.

    Raises:
        InputError: for a factor that leaves no layer.
    """
    if not 1 <= lrf <= teacher:
        raise InputError(f"A layer reduction factor from 1 to {teacher} was expected, but got {lrf}.")
    return teacher // lrf
