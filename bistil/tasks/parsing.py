"""Dependency parsing: CoNLL-U in, shallow biaffine head, UAS and LAS out.

Notable:
* scores follow the CoNLL-18 script on gold segmentation: every syntactic word counts, punctuation too, and
  only the universal part of a relation is compared; so the labels are universal relations;
* the soft targets of distillation are the teacher's head distribution of each word and its relation
  distribution *at the gold head*. The paper leaves open how z is defined for parsing; this choice gives
  student and teacher the same events and costs no second pass;
* words cut off at `max_length` get no head and count as wrong.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from bistil.losses import prediction_loss
from bistil.models.load import TaskModel
from bistil.tasks.biaffine import ShallowBiaffine
from bistil.tasks.sentences import known_labels, pad, pad_inputs, some, tokenize
from bistil.tasks.task import Batch, Outcomes, Row, ratios
from bistil.tasks.treebank import Sentence, read_conllu, universal
from bistil.text.corpora import IGNORED
from bistil.training.parallel import counted


@dataclass(frozen=True)
class Tree:
    """A predicted tree over the first words of a sentence: heads counted from 1, 0 for the root, and
    universal relations.
    """

    heads: tuple[int, ...]
    relations: tuple[str, ...]


@dataclass(frozen=True)
class Parsing:
    """The parsing task. `labels` are universal relations; `dropout` is applied to the states that enter the
    head.
    """

    labels: tuple[str, ...] = ()
    dropout: float = 0.1
    name: str = "parsing"
    title: str = "Dependency parsing"
    column: str = "treebank"
    metric: str = "las"

    def read(self, path: Path) -> list[Sentence]:
        """Sentences of a CoNLL-U file. Raises InputError with the line number where it is malformed."""
        return read_conllu(path)

    def for_training(self, examples: Sequence[Sentence]) -> Self:
        """This task with the universal relations of the examples as labels, in alphabetical order."""
        training = some(examples, "Sentences to train a parser on were expected, but there are none")
        relations = {universal(relation) for one in training for relation in one.relations}
        return replace(self, labels=tuple(sorted(relations)))

    def encode(
        self, examples: Sequence[Sentence], tokenizer: PreTrainedTokenizerBase, *, max_length: int
    ) -> list[Row]:
        """Rows of `input_ids`, `first_subwords`, `heads` and `relations`; the last three have one entry for
        each word not cut off.

        A head is -100 where it was cut off; a relation is -100 where the labels lack it.
        """
        index = {label: i for i, label in enumerate(known_labels(self))}
        rows = []
        for example, tokens in zip(
            examples, tokenize([e.words for e in examples], tokenizer, max_length=max_length), strict=True
        ):
            kept = len(tokens.first_subwords)
            rows.append(
                {
                    "input_ids": tokens.input_ids,
                    "first_subwords": tokens.first_subwords,
                    "heads": [head if head <= kept else IGNORED for head in example.heads[:kept]],
                    "relations": [
                        index.get(universal(relation), IGNORED) for relation in example.relations[:kept]
                    ],
                }
            )
        return rows

    def collate(self, rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
        """A batch: inputs of Shape: [B, L]; `first_subwords`, `heads` and `relations` of Shape: [B, W],
        padded with -1, -100 and -100.
        """
        return pad_inputs(rows, pad_id) | {
            "first_subwords": pad(rows, "first_subwords", -1),
            "heads": pad(rows, "heads", IGNORED),
            "relations": pad(rows, "relations", IGNORED),
        }

    def head(self, hidden_size: int) -> nn.Module:
        """A shallow biaffine parser for encoder states of `hidden_size`."""
        return ShallowBiaffine(
            hidden_size=hidden_size, relations=len(known_labels(self)), dropout=self.dropout
        )

    def loss(self, logits: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Cross-entropy of the heads plus that of the relations at the gold heads, each a mean over words.
        Shape: [].
        """
        relations = batch["relations"].masked_fill(batch["heads"] < 0, IGNORED)
        return _cross_entropy(logits["arcs"], batch["heads"]) + _cross_entropy(logits["relations"], relations)

    def distillation_loss(
        self, student_logits: Mapping[str, Tensor], teacher_logits: Mapping[str, Tensor], batch: Batch
    ) -> Tensor:
        """Soft cross-entropy of the heads plus that of the relations at the gold heads (BiStil eq. 5.3),
        means over words. Shape: [].
        """
        arcs = prediction_loss(student_logits["arcs"], teacher_logits["arcs"], batch["first_subwords"] >= 0)
        return arcs + prediction_loss(
            student_logits["relations"], teacher_logits["relations"], batch["heads"] >= 0
        )

    def predict(self, model: TaskModel, batch: Batch) -> list[Tree]:
        """The best single-root tree of each sentence, with the best relation at each of its heads."""
        labels = known_labels(self)
        logits = model(
            {name: tensor for name, tensor in batch.items() if name not in ("heads", "relations")}
        ).logits
        trees = []
        for heads, relations in zip(
            logits["heads"].tolist(), logits["relations"].argmax(-1).tolist(), strict=True
        ):
            kept = [i for i, head in enumerate(heads) if head >= 0]
            trees.append(Tree(tuple(heads[i] for i in kept), tuple(labels[relations[i]] for i in kept)))
        return trees

    def score(self, examples: Sequence[Sentence], predictions: Sequence[Tree]) -> dict[str, float]:
        """`uas` and `las` in percent over all words of all examples."""
        return ratios(self.outcomes(examples, predictions))

    def outcomes(self, examples: Sequence[Sentence], predictions: Sequence[Tree]) -> Outcomes:
        """Words with the right head, and with the right relation too, of the words of each sentence."""
        words = [len(example.words) for example in examples]
        heads = [
            [a == b for a, b in zip(e.heads, tree.heads, strict=False)]
            for e, tree in zip(examples, predictions, strict=True)
        ]
        both = [
            sum(
                head and universal(gold) == guess
                for head, gold, guess in zip(right, e.relations, tree.relations, strict=False)
            )
            for right, e, tree in zip(heads, examples, predictions, strict=True)
        ]
        return {"uas": ([sum(right) for right in heads], words), "las": (both, words)}

    def floor(self, train: Sequence[Sentence], test: Sequence[Sentence]) -> dict[str, float]:
        """For each metric the better of left and right attachment, with the most frequent relation of the
        training sentences.
        """
        relation = most_frequent_relation(train)
        left, right = (
            self.score(test, attach(test, relation)) for attach in (left_attachment, right_attachment)
        )
        return {name: max(left[name], right[name]) for name in left}


def most_frequent_relation(examples: Sequence[Sentence]) -> str:
    """The universal relation, other than root, that occurs most; the alphabetically first of equals."""
    counts = Counter(universal(relation) for example in examples for relation in example.relations)
    del counts["root"]
    return min(counts, key=lambda relation: (-counts[relation], relation), default="root")


def left_attachment(examples: Sequence[Sentence], relation: str) -> list[Tree]:
    """Trees in which each word hangs on the word before it; the first word is the root."""
    return [
        Tree(tuple(range(n)), ("root", *[relation] * (n - 1)))
        for n in (len(example.words) for example in examples)
    ]


def right_attachment(examples: Sequence[Sentence], relation: str) -> list[Tree]:
    """Trees in which each word hangs on the word after it; the last word is the root."""
    return [
        Tree((*range(2, n + 1), 0), (*[relation] * (n - 1), "root"))
        for n in (len(example.words) for example in examples)
    ]


def _cross_entropy(logits: Tensor, gold: Tensor) -> Tensor:
    """Mean over the entries of `gold` that are not -100; zero where there is none. Shape: [B, W, C], [B, W]
    -> [].
    """
    total = cross_entropy(logits.flatten(0, 1).float(), gold.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / counted((gold != IGNORED).sum())
