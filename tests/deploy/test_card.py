"""The front of a model card is YAML that says what was meant, whatever languages and teachers are called."""

import yaml
from test_pipeline import NER

from bistil.deploy.card import _front
from bistil.sources.table import data_set


def test_the_front_of_a_card_is_read_back_as_it_was_written() -> None:
    codes, teacher = ["no", "on", "null", "e: [n", "1e3", "a\nb: c"], "me/{x}: #teacher"
    text = _front(NER, codes, [data_set("wikipedia")], teacher)
    assert text.startswith("---\n")
    assert text.endswith("\n---")
    assert yaml.safe_load(text.strip("-")) == {
        "language": codes,
        "library_name": "transformers",
        "tags": ["bistil", "distillation", "cross-lingual"],
        "pipeline_tag": "token-classification",
        "base_model": teacher,
        "datasets": [data_set("wikipedia").hub],
    }
    assert set(yaml.safe_load(_front(NER._replace(task="parsing"), ["qaa"], [], None).strip("-"))) == {
        "language",
        "library_name",
        "tags",
    }
