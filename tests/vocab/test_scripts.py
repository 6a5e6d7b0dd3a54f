"""Characters of the scripts that a corpus is written in: kept although no line of it has them, at a price."""

from pathlib import Path

import numpy as np
import pytest
import zoo
from transformers import BertTokenizer

from bistil import vocab
from bistil.experiment import VocabularyConfig
from bistil.store.provenance import plain
from bistil.vocab.scripts import script

TEXT = ["der alte mann liest", "the old man reads"] * 50
OTHERS = ["ß", "é", "7", "!", "з", "ю", "北", "京", "α"]
LINES = [*TEXT, *(f"{one} {one}{one}" for one in OTHERS)] * 20


@pytest.mark.parametrize("name", ["xlm_roberta", "deberta", "wordpiece"])
def test_new_text_in_the_same_script_is_spelled(name: str) -> None:
    if name == "wordpiece":
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({*"".join(LINES)} - {" "})]
        marked = [f"##{piece}" for piece in pieces if len(piece) == 1]
        tokenizer = BertTokenizer(
            vocab={piece: i for i, piece in enumerate(pieces + marked)}, strip_accents=False
        )
    else:
        tokenizer = getattr(zoo, f"{name}_tokenizer")(LINES)
    counts = [vocab.count_tokens(tokenizer, TEXT)]
    kept, scripts, every = (
        vocab.choose(tokenizer, counts, characters=which) for which in ("kept", "scripts", "all")
    )
    assert set(kept) < set(scripts) < set(every)
    has, lacks = ({*"".join(vocab.trim_tokenizer(tokenizer, ids).get_vocab())} for ids in (scripts, kept))
    assert {"ß", "é", "7", "!"} <= has - lacks
    assert not {"з", "ю", "北", "α"} & has


def test_a_name_in_another_script_does_not_bring_the_script(wordpiece: BertTokenizer) -> None:
    assert [script(one) for one in "aßзα北カ7!\u0301"] == [
        *("LATIN", "LATIN", "CYRILLIC", "GREEK", "CJK", "KATAKANA", "", "", "")
    ]
    weights = [np.array([500.0, 4.0, 0.0]), np.array([0.0, 0.0, 0.0])]
    assert vocab.scripts.written_in({0: "abc", 1: "з", 2: "α"}, weights) == {"", "LATIN"}
    weights[1][2] = 1.0
    assert vocab.scripts.written_in({0: "abc", 1: "з", 2: "α"}, weights) == {"", "LATIN", "GREEK"}


def test_the_setting_leaves_old_names_as_they_were(experiment_file, tmp_path: Path) -> None:
    assert "characters" not in plain(VocabularyConfig())
    assert plain(VocabularyConfig(characters="scripts"))["characters"] == "scripts"
