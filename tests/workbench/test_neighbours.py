"""The panel of nearest sentences: what it shows is what retrieval would take."""

import pytest
import torch
from tiny import masked_lm
from transformers import BertTokenizer

from bistil.tasks.retrieval import SIMILARITIES, Side, token_states
from bistil.workbench import Neighbours, neighbours_panel

LINES = ["anna sees the cat .", "ben visits rome", "the old dog", "oslo"]
PAIRS = list(zip(LINES, [*LINES[1:], LINES[0]], strict=True))


@pytest.fixture
def side() -> Side:
    words = sorted({word for line in LINES for word in line.split()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
    return Side(masked_lm(len(tokenizer), layers=2).bert, tokenizer)


@pytest.mark.parametrize("by", ["cosine", "bertscore"])
def test_the_nearest_are_the_largest_of_the_row(side: Side, by: str) -> None:
    found = Neighbours(side, side, PAIRS).nearest(1, layer=1, by=by, most=3)
    left, right = (
        token_states(side, lines, layers=(1,), batch_size=8, max_length=16)[0]
        for lines in zip(*PAIRS, strict=True)
    )
    values, places = SIMILARITIES[by](left, right)[1].topk(3)
    assert [one.text for one in found] == [PAIRS[place][1] for place in places]
    torch.testing.assert_close(torch.tensor([one.similarity for one in found]), values)
    assert found[0].text == LINES[1]
    assert not found[0].right  # the pairs are turned by one
    assert [one.right for one in found] == [one.text == PAIRS[1][1] for one in found]


def test_the_panel_marks_the_translation_and_follows_its_choices(side: Side) -> None:
    panel = neighbours_panel(side, side, [(line, line) for line in LINES])
    assert panel.table.value.count("✓") == 1
    first = panel.table.value
    panel.number.value, panel.layer.value, panel.by.value = 2, 0, "bertscore"
    assert panel.table.value != first
    assert panel.table.value.index("✓") < panel.table.value.index("the old dog")
    assert panel.error.value == ""
