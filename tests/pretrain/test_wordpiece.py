"""WordPiece vocabularies: trained, and extended."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, BertTokenizer

from bistil.pretrain.wordpiece import SPECIAL, extend_wordpiece, train_wordpiece
from bistil.text.corpora import read_lines


def lines_of(world: Path, code: str) -> list[str]:
    return read_lines(world / "corpora" / f"{code}.txt")


def test_a_trained_vocabulary_starts_with_the_specials_and_spells_the_text(
    world: Path, tmp_path: Path
) -> None:
    lines = lines_of(world, "qaa")
    tokenizer = train_wordpiece(lines, 250, lowercase=False)
    assert tuple(tokenizer.convert_ids_to_tokens(range(5))) == SPECIAL
    assert len(tokenizer) <= 250
    ids = tokenizer(lines)["input_ids"]
    assert sum(row.count(tokenizer.unk_token_id) for row in ids) == 0
    assert all(row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id for row in ids)
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(lines)["input_ids"] == ids
    assert train_wordpiece(lines, 250, lowercase=False).get_vocab() == tokenizer.get_vocab()


def test_lowercase_is_kept_when_extending(world: Path) -> None:
    old = train_wordpiece(lines_of(world, "qaa"), 200, lowercase=True)
    extended, _ = extend_wordpiece(old, lines_of(world, "qab"), 200)
    assert extended("ANNA Anna")["input_ids"] == extended("anna anna")["input_ids"]


@pytest.mark.parametrize(
    "settings", [{"strip_accents": False}, {"strip_accents": None}, {"tokenize_chinese_chars": False}]
)
def test_normalisation_is_kept_when_extending(
    settings: dict[str, bool | None], world: Path, tmp_path: Path
) -> None:
    pieces = [*SPECIAL, "für", "fur", "人們", "人", "們", "f", "##ü", "##u", "##r"]
    old = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True, **settings)
    extended, _ = extend_wordpiece(old, lines_of(world, "qab"), 200)
    extended.save_pretrained(tmp_path)
    for word in ("FÜR", "人們"):
        for tokenizer in (extended, AutoTokenizer.from_pretrained(tmp_path)):
            assert tokenizer.tokenize(word) == old.tokenize(word)


def test_an_extended_vocabulary_keeps_old_pieces_and_spells_new_ones(world: Path) -> None:
    old = train_wordpiece(lines_of(world, "qaa"), 250, lowercase=False)
    lines = [*lines_of(world, "qaa"), *lines_of(world, "qab")]
    extended, spelling = extend_wordpiece(old, lines, 300)
    before, after = old.get_vocab(), extended.get_vocab()
    assert len(spelling) == len(extended)
    assert tuple(extended.convert_ids_to_tokens(range(5))) == SPECIAL
    old_piece = {i: piece for piece, i in before.items()}
    assert set(before) <= set(after)
    new = 0
    for piece, i in after.items():
        if piece in before:
            assert spelling[i] == [before[piece]]
            continue
        new += 1
        spelled = [old_piece[j] for j in spelling[i]]
        if spelled != ["[UNK]"]:
            assert "".join(part.removeprefix("##") for part in spelled) == piece.removeprefix("##")
            assert [part.startswith("##") for part in spelled] == [
                piece.startswith("##"),
                *[True] * (len(spelled) - 1),
            ]
    assert new > 10
    assert sum(row.count(extended.unk_token_id) for row in extended(lines)["input_ids"]) == 0


def test_what_the_old_vocabulary_cannot_spell_starts_at_unknown(world: Path) -> None:
    old = train_wordpiece(lines_of(world, "qaa"), 200, lowercase=False)
    extended, spelling = extend_wordpiece(old, ["ж ж ж ж"] * 5, 100)
    assert spelling[extended.get_vocab()["ж"]] == [old.unk_token_id]
