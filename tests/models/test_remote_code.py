"""No folder's own code is ever run: the source says so at every place that loads a model, a tokenizer or a
configuration, and a folder that asks for its code is refused without a question.
"""

import ast
import json
from pathlib import Path

import pytest
from tiny import masked_lm
from transformers import BertTokenizer

import bistil
from bistil.errors import InputError
from bistil.models.load import load_teacher


def loads(tree: ast.AST) -> list[ast.Call]:
    """The calls of `from_pretrained` in a file, but for those of torch's embeddings."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("from_pretrained", "from_config", "pipeline")
        and getattr(node.func.value, "attr", "") != "Embedding"
    ]


def refuses(call: ast.Call) -> bool:
    said = {word.arg: word.value for word in call.keywords}.get("trust_remote_code")
    return isinstance(said, ast.Constant) and said.value is False


def test_every_place_that_loads_says_so() -> None:
    found = [
        (path.name, call)
        for path in Path(bistil.__file__).parent.rglob("*.py")
        for call in loads(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(found) > 8
    assert not [(name, call.lineno) for name, call in found if not refuses(call)]


def test_code_of_a_folder_is_not_even_asked_about(
    wordpiece: BertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked_lm(len(wordpiece), layers=2).save_pretrained(tmp_path)
    wordpiece.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "own.py").write_text("raise SystemExit('the code of the folder ran')\n", encoding="utf-8")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(InputError):
        load_teacher(tmp_path)
