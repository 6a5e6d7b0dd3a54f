"""Byte-pair vocabularies over words that begin with ▁, NLLB's kind, in a fast tokenizer with tokens for
languages.

Notable: the same text gives the same vocabulary; a Unigram one that the tokenizers library learns differs
from run to run.
"""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from bistil.pretrain.wordpiece import characters

SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def fast_tokenizer(lines: Sequence[str], size: int, languages: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `size` pieces learned from some lines, and a token for each of `languages`
    besides.
    """
    backend = Tokenizer(models.BPE(unk_token=SPECIAL["unk_token"], fuse_unk=True))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    alphabet, _ = characters(lines, backend)
    learner = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(lines, learner)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)
    tokenizer.add_tokens([AddedToken(one, special=True) for one in languages])
    return tokenizer
