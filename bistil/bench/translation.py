"""What translating a file costs: in batches by length, as task data is translated, and one by one."""

import torch

from bistil.bench.measure import OURS, Row, Size, Turn, alternate, comparison
from bistil.bench.vocabulary import random_text
from bistil.models.seq2seq import by_length, generate, language_token, sentence_ids
from bistil.pretrain.parallel import Parallel, TranslatorConfig
from bistil.pretrain.translator import initial_translator
from bistil.training.loop import Schedule

SENTENCES, LONGEST, WRITTEN = 128, 40, 24
ARRIVAL, ALONE = "batches as they come", "one by one"


def translation(size: Size) -> list[Row]:
    """A random M2M100 of a quarter of the layers and a third of the width, 3 x 256 at the default size."""
    torch.manual_seed(1)
    _, drawn = random_text(2000, 2 * SENTENCES)
    halves = zip(drawn[::2], drawn[1::2], strict=True)
    lines = [
        " ".join(f"{one} {two}".split()[: 2 + 7 * i % (LONGEST - 1)]) for i, (one, two) in enumerate(halves)
    ]
    config = TranslatorConfig(
        pairs=("eng-swa",),
        layers=max(1, size.layers // 4),
        hidden=max(64, size.hidden // 3 // 64 * 64),
        heads=1,
        vocabulary=2000,
        length=3 * LONGEST,
        schedule=Schedule(steps=1, learning_rate=1e-3),
    )
    pairs = [(line, line) for line in lines]
    model, tokenizer = initial_translator(config, Parallel({"eng-swa": pairs}, {"eng-swa": pairs[:2]}))
    reads, writes = (language_token(tokenizer, code, {}) for code in ("eng", "swa"))
    rows = sentence_ids(tokenizer, lines, reads, config.length)
    sorted_batches = list(by_length([len(row) for row in rows]))
    most = max(map(len, sorted_batches))
    as_they_come = [list(range(at, min(at + most, len(rows)))) for at in range(0, len(rows), most)]

    def by(batches: list[list[int]]) -> Turn:
        def turn() -> None:
            for batch in batches:
                made = [rows[i] for i in batch]
                generate(model.eval(), tokenizer, made, writes, beams=1, max_length=WRITTEN)

        return turn

    sides = {OURS: by(sorted_batches), ARRIVAL: by(as_they_come), ALONE: by([[i] for i in range(len(rows))])}
    name = f"translating {SENTENCES} sentences of up to {LONGEST} words, {WRITTEN} tokens each"
    note = f"{ARRIVAL}: as large as the largest of ours"
    return [comparison(name, note, alternate(size.turns, sides))]
