"""WordPiece vocabularies: one trained from text, or an existing one extended with the pieces that new
languages need.

Notable: training is the tokenizers library's, which numbers continuation characters in random order and
breaks ties by number, so that two runs differ; here they are numbered beforehand, and the same text gives the
same vocabulary. Extending keeps the old pieces and their normalisation and says of each piece how the old
tokenizer spelled it, so that its embedding can start from there.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer
from transformers import BertTokenizer, PreTrainedTokenizerBase

from bistil.errors import InputError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ALPHABET = 1000
"""Rarer characters than so many get no piece of their own, as in the tokenizers library."""


def train_wordpiece(lines: Iterable[str], size: int, *, lowercase: bool) -> BertTokenizer:
    """A BERT tokenizer with a WordPiece vocabulary of at most `size` pieces, learned from `lines`."""
    normalizer = BertNormalizer(lowercase=lowercase)
    return _bert_tokenizer(_learn(list(lines), size, normalizer), normalizer)


def extend_wordpiece(
    tokenizer: PreTrainedTokenizerBase, lines: Sequence[str], size: int
) -> tuple[BertTokenizer, list[list[int]]]:
    """A tokenizer with all pieces of `tokenizer` and those of up to `size` pieces learned from `lines` that
    it lacks.

    Returns:
        the tokenizer, and for each of its ids the ids that spell the piece in the old tokenizer (one id for
        an old piece).

    Raises:
        InputError: for a tokenizer that is not of BERT's kind.
    """
    model, normalizer = tokenizer.backend_tokenizer.model, tokenizer.backend_tokenizer.normalizer
    if not (isinstance(model, WordPiece) and isinstance(normalizer, BertNormalizer)):
        raise InputError(
            "A start with a WordPiece vocabulary and BERT's normalisation, to extend, was expected, not one"
            f" with {type(model).__name__} and {type(normalizer).__name__}."
        )
    old = tokenizer.get_vocab()
    kept = sorted(old, key=old.__getitem__)
    vocabulary = list(dict.fromkeys([*SPECIAL, *kept, *_learn(lines, size, normalizer)]))
    return _bert_tokenizer(vocabulary, normalizer), [_spelling(piece, old, tokenizer) for piece in vocabulary]


def _spelling(piece: str, old: dict[str, int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Old ids that spell `piece`; a continuation piece is spelled in continuation pieces."""
    if piece in old:
        return [old[piece]]
    ids, rest, inside = [], piece.removeprefix("##"), piece.startswith("##")
    while rest:
        for end in range(len(rest), 0, -1):
            candidate = ("##" if inside else "") + rest[:end]
            if candidate in old:
                ids.append(old[candidate])
                rest, inside = rest[end:], True
                break
        else:
            return [tokenizer.unk_token_id]
    return ids


def _learn(lines: Sequence[str], size: int, normalizer: BertNormalizer) -> list[str]:
    learner = Tokenizer(WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizer
    learner.pre_tokenizer = BertPreTokenizer()
    alphabet, continuing = characters(lines, learner)
    trainer = WordPieceTrainer(
        vocab_size=size,
        special_tokens=[*SPECIAL, *(f"##{character}" for character in continuing)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        min_frequency=3,
        show_progress=False,
    )
    learner.train_from_iterator(lines, trainer)
    return [piece for piece, _ in sorted(learner.get_vocab().items(), key=lambda item: item[1])]


def characters(lines: Iterable[str], learner: Tokenizer) -> tuple[list[str], list[str]]:
    """The ALPHABET most frequent characters, and those of them that continue a word; both in the order of the
    code points. The library's own choice among equally rare ones differs from run to run.
    """
    counts: Counter[str] = Counter()
    inside: set[str] = set()
    for line in lines:
        for word, _ in learner.pre_tokenizer.pre_tokenize_str(learner.normalizer.normalize_str(line)):
            counts.update(word)
            inside.update(word[1:])
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:ALPHABET])
    return alphabet, [character for character in alphabet if character in inside]


def _bert_tokenizer(vocabulary: Sequence[str], normalizer: BertNormalizer) -> BertTokenizer:
    tokenizer = BertTokenizer(
        vocab={piece: i for i, piece in enumerate(vocabulary)},
        do_lower_case=normalizer.lowercase,
        strip_accents=normalizer.strip_accents,
        tokenize_chinese_chars=normalizer.handle_chinese_chars,
    )
    tokenizer.add_special_tokens({"mask_token": AddedToken("[MASK]", lstrip=False, special=True)})
    return tokenizer
