"""Vocabulary reduction: count tokens, choose, trim tokenizer and model, report (BiStil section 5.3.2); how
well one covers a language.

Notable: ids become compact and keep their order, so student id i is teacher id kept[i] and both models see
the same tokens when the teacher is fed kept[input_ids]. One file a family (`wordpiece`, `unigram`, `bpe`)
says what else must be kept so that every text whose tokens are all kept has the same tokens as before, and
why that is enough.
"""

from bistil.vocab.counting import count_tokens, sentence_share
from bistil.vocab.covering import Coverage, coverage
from bistil.vocab.embeddings import take_over, trim_config, trim_model
from bistil.vocab.reporting import report
from bistil.vocab.selection import choose, curve
from bistil.vocab.tokenizer import trim_tokenizer

__all__ = [
    "Coverage",
    "choose",
    "count_tokens",
    "coverage",
    "curve",
    "report",
    "sentence_share",
    "take_over",
    "trim_config",
    "trim_model",
    "trim_tokenizer",
]
