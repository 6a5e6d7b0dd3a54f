"""The few lines in a model card that use a student without bistil.

Notable: tests run them as they stand, so what a card shows works. Where few lines are not enough, for a
choice, adapters or fresh layers under the head, a card names the command instead.
"""

from pathlib import Path

from safetensors import safe_open

from bistil.deploy.graph import graph_in
from bistil.pipeline.finished import ADAPTERS, HEAD
from bistil.sft.bottleneck import NAMED
from bistil.tasks.deeper import depth_of

_CLASSES = {
    "ner": "AutoModelForTokenClassification",
    "pos": "AutoModelForTokenClassification",
    "nli": "AutoModelForSequenceClassification",
    "classification": "AutoModelForSequenceClassification",
    "qa": "AutoModelForQuestionAnswering",
}
_TORCH = """import torch
from transformers import AutoConfig, {kind}, AutoTokenizer

FOLDER = "."  # where this file is
tokenizer, config = AutoTokenizer.from_pretrained(FOLDER), AutoConfig.from_pretrained(FOLDER)
model = {kind}.from_pretrained(FOLDER{extra}).eval()

def run(inputs):
    with torch.inference_mode():
        return model(**inputs).to_tuple()
"""
_ONNX = """import onnxruntime
import torch
from transformers import AutoConfig, AutoTokenizer

FOLDER = "."  # where this file is
tokenizer, config = AutoTokenizer.from_pretrained(FOLDER), AutoConfig.from_pretrained(FOLDER)
session = onnxruntime.InferenceSession(f"{{FOLDER}}/{graph}")

def run(inputs):
    inputs = {{one.name: inputs[one.name].numpy() for one in session.get_inputs()}}
    return [torch.from_numpy(output) for output in session.run(None, inputs)]
"""
_WORDS = """
words = "{text}".split()
inputs = tokenizer(words, is_split_into_words=True, return_token_type_ids={segments}, return_tensors="pt")
first = {{}}  # the position of each word's first sub-word
for position, word in enumerate(inputs.word_ids()):
    if word is not None:
        first.setdefault(word, position)
output = run(inputs)[0][0]
"""
_TAGS = """found = [(word, config.id2label[int(output[first[i]].argmax())]) for i, word in enumerate(words)]
"""
_PARSE = """
import json
from safetensors.torch import load_file
head = load_file(f"{FOLDER}/head.safetensors")
labels = json.load(open(f"{FOLDER}/labels.json", encoding="utf-8"))
states = torch.cat([output[[0, *first.values()]], torch.ones(len(words) + 1, 1)], 1)  # [CLS]: root; 1: bias
arcs = states[1:] @ head["arcs"] @ states.T
arcs[range(len(words)), range(1, len(words) + 1)] = -torch.inf  # no word is its own head
heads = arcs.argmax(1)  # each word's best head, 0 for the root; bistil looks for the best tree
relations = torch.einsum("wi,rij,wj->wr", states[1:], head["relations"], states[heads]).argmax(1)
found = [(word, int(head), labels[relation]) for word, head, relation in zip(words, heads, relations)]
"""
_PAIR = """
inputs = tokenizer("A premise.", "A hypothesis.", return_token_type_ids={segments}, return_tensors="pt")
found = config.id2label[int(run(inputs)[0][0].argmax())]
"""
_TEXT = """
inputs = tokenizer("A text.", return_token_type_ids={segments}, return_tensors="pt")
found = config.id2label[int(run(inputs)[0][0].argmax())]
"""
_QUESTION = """
question, context = "A question?", "The paragraph that holds the answer."
most = {{"truncation": "only_second", "max_length": {longest}}}  # bistil reads a longer paragraph in windows
most |= {{"return_offsets_mapping": True, "return_token_type_ids": {segments}, "return_tensors": "pt"}}
inputs = tokenizer(question, context, **most)
places = inputs.pop("offset_mapping")[0]
inside = torch.tensor([part == 1 for part in inputs.sequence_ids()])  # an answer lies in the paragraph
start, end = (logits[0].masked_fill(~inside, -torch.inf) for logits in run(inputs)[:2])
scores = start[:, None] + end
allowed = torch.ones_like(scores).triu().tril(29).bool()  # 1 to 30 tokens
first, last = divmod(int(scores.masked_fill(~allowed, -torch.inf).argmax()), len(start))
found = context[places[first, 0] : places[last, 1]].strip()
"""


_SENTENCES = """from sentence_transformers import SentenceTransformer

FOLDER = "."  # where this file is
vectors = SentenceTransformer(FOLDER).encode(["A sentence.", "Its translation."])
"""
_SENTENCES_ONNX = """
texts = [{prefix!r} + sentence for sentence in ("A sentence.", "Its translation.")]
vectors = run(tokenizer(texts, padding=True, return_tensors="pt"))[0]
"""


def sentence_code(folder: Path, prefix: str) -> str:
    """Python between fences that ends with `found`, the cosine of two sentences by the exported folder."""
    path = graph_in(folder)
    lines = _ONNX.format(graph=path.name) + _SENTENCES_ONNX.format(prefix=prefix) if path else _SENTENCES
    return f"```python\n{lines}found = float(vectors[0] @ vectors[1])\nprint(found)\n```"


def code(task: str, folder: Path, *, segments: bool, bare: bool, longest: int) -> str:
    """Python between fences that ends with `found`, what the student in the exported folder says of an
    example.

    Args:
        segments: the model takes `token_type_ids`. bare: its class would come with a pooler. longest: tokens
            that it takes.
    """
    if what := beyond(task, folder):
        told = "`bistil predict FOLDER TEXT` runs it."
        return f"transformers has no class for the {what} beside the encoder: {told}"
    path, beside = graph_in(folder), (folder / HEAD).is_file()
    extra = ", add_pooling_layer=False" if beside and bare else ""
    kind = "AutoModel" if beside else _CLASSES[task]
    begin = _ONNX.format(graph=path.name) if path else _TORCH.format(kind=kind, extra=extra)
    texts = {"nli": _PAIR, "classification": _TEXT, "qa": _QUESTION}
    body = texts.get(task, _WORDS).format(
        segments=segments, longest=longest, text="Words with blanks between them ."
    )
    rest = {"parsing": _PARSE, "ner": _TAGS, "pos": _TAGS}.get(task, "")
    return f"```python\n{begin}{body}{rest}print(found)\n```"


def beyond(task: str, folder: Path) -> str:
    """What of an exported folder takes more than a few lines to run without bistil; "" where nothing does."""
    if graph_in(folder) is None and any((folder / ADAPTERS.format(role)).is_file() for role in NAMED):
        return "adapters"
    if not (folder / HEAD).is_file():
        return ""
    with safe_open(folder / HEAD, framework="pt") as file:
        return "head" if task != "parsing" or depth_of(file.keys()) else ""
