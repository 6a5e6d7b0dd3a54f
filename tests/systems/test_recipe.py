"""Layer maps, terms and the other values that a method is made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistil.errors import InputError
from bistil.systems.layers import layer_pairs, start_layers, student_depth
from bistil.systems.learning import Adaptation, Learning
from bistil.systems.recipe import Student, Term
from bistil.systems.rows import Rows

STATES = {"hidden": Term(of="states", by="mse")}


def teachers(layers, teacher: int, student: int) -> list[int]:
    return [n for _, n in layer_pairs(layers, teacher, student)]


def test_the_maps_are_those_of_the_papers() -> None:
    assert teachers("uniform", 12, 6) == [2, 4, 6, 8, 10, 12]
    assert teachers("odd", 12, 6) == [1, 3, 5, 7, 9, 11]
    assert teachers("odd-last", 12, 6) == [1, 3, 5, 7, 9, 12]
    assert teachers("top", 12, 6) == [7, 8, 9, 10, 11, 12]
    assert teachers("bottom", 12, 6) == [1, 2, 3, 4, 5, 6]
    assert layer_pairs("last", 12, 6) == ((6, 12),)
    assert layer_pairs("1-3 2-12", 12, 6) == ((1, 3), (2, 12))


@given(st.integers(1, 24), st.integers(1, 24))
def test_a_map_pairs_each_layer_of_the_student_with_a_later_one_of_the_teacher(teacher, student) -> None:
    if student > teacher:
        with pytest.raises(InputError, match="A student of 1 to"):
            layer_pairs("top", teacher, student)
        return
    maps = ["top", "bottom"] + (["uniform", "odd", "odd-last"] if teacher % student == 0 else [])
    for name in maps:
        pairs = layer_pairs(name, teacher, student)
        assert [m for m, _ in pairs] == list(range(1, student + 1))
        found = [n for _, n in pairs]
        assert found == sorted(set(found))
        assert found[0] >= 1
        assert found[-1] <= teacher


def test_depths_that_do_not_divide_are_refused_where_the_map_needs_it_and_taken_where_not() -> None:
    assert student_depth(12, 5) == 2
    assert start_layers("top", 12, 5) == (11, 12)
    with pytest.raises(InputError, match="5 does not divide 12"):
        start_layers("uniform", 12, 5)
    with pytest.raises(InputError, match=r"one of \[1, 2, 3, 4, 6, 12\]"):
        layer_pairs("odd", 12, 5)


@pytest.mark.parametrize("layers", ["0-1", "1-13", "1-1 7-1"])
def test_pairs_outside_the_models_are_refused(layers) -> None:
    with pytest.raises(InputError, match="from 1 to 6 and a teacher's from 1 to 12"):
        layer_pairs(layers, 12, 6)


@pytest.mark.parametrize("layers", ["1-2 1-4", "1-4 2-4", "1-6 2-4"])
def test_pairs_that_repeat_or_cross_are_refused(layers) -> None:
    with pytest.raises(InputError, match=f"do not cross .* but got {layers}"):
        layer_pairs(layers, 12, 6)
    assert layer_pairs("2-6 1-4", 12, 6) == ((2, 6), (1, 4))


def test_a_start_names_a_layer_for_each_of_the_students() -> None:
    assert start_layers("2-9 1-4", 12, 6) == (4, 9)
    with pytest.raises(InputError, match="A start for each of the student's 6 layers"):
        start_layers("last", 12, 2)
    with pytest.raises(InputError, match="uniform, odd"):
        start_layers("middle", 12, 2)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"of": "attention", "by": "cosine"}, "attention by mse"),
        ({"of": "prediction", "by": "mse"}, "prediction by kl, cosine, ce"),
        ({"of": "hidden", "by": "mse", "weight": 0.0}, "weight"),
        ({"of": "prediction", "by": "kl", "temperature": -1.0}, "temperature"),
        ({"of": "hidden", "by": "mse", "over": "median"}, "one of mean, sum"),
    ],
)
def test_terms_that_mean_nothing_are_refused(wrong, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Term(**wrong)


def test_students_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="at random needs at least one term"):
        Student(terms={}, start="random")
    with pytest.raises(InputError, match="keep the teacher's"):
        Student(terms=STATES, languages="seen")
    with pytest.raises(InputError, match="give `languages: each`"):
        Student(terms=STATES, share=("embeddings",))
    with pytest.raises(InputError, match="one of train, dev"):
        Rows(split="test")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="At most one of"):
        Learning(select="all", peft="lora")
    with pytest.raises(InputError, match="one of random, biases"):
        Adaptation(select="all")  # type: ignore[arg-type]


def test_what_a_student_needs_follows_from_its_terms() -> None:
    kl, ce = Term(of="prediction", by="kl"), Term(of="prediction", by="ce")
    assert Student(terms=STATES).narrows
    assert not Student(terms=STATES, start="top").narrows
    assert not Student(terms=STATES, layers="last").narrows
    assert not Student(terms=STATES, trim="after").narrows
    assert not Student(terms={"hidden": Term(of="states", by="mse", layers="last")}).narrows
    both = Student(terms={"soft": kl, "masked": ce})
    assert both.has_head
    assert both.masks
    assert both.follows
    assert not Student(terms={"masked": ce}).follows
