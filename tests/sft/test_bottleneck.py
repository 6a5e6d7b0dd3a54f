"""Bottleneck and invertible adapters: what they compute, their order, how many values they have, that they
come off without a trace, their files, and MAD-X from the experiment file to the finished folder.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import ROOT, masked_lm
from torch.nn.functional import relu
from transformers import AutoConfig, BertConfig
from zoo import TOKENIZERS
from zoo import masked_lm as of_family

from bistil.adapt.wardrobe import Wardrobe
from bistil.adapt.worn import load_worn
from bistil.deploy.card_code import code
from bistil.deploy.graph import GRAPHS, in_place, missing
from bistil.deploy.read import load_deployed
from bistil.distil.task import TaskLearning
from bistil.errors import InputError
from bistil.evaluation.score import predict_all
from bistil.experiment import Experiment
from bistil.models.architectures import architecture, blocks, mlm_logits
from bistil.models.load import TaskModel, encode
from bistil.pipeline import Pipeline
from bistil.plan import foresee
from bistil.plan.estimate import Estimator
from bistil.plan.profiles import misfits
from bistil.sft.bottleneck import Adapter, AdapterModule, Coupling
from bistil.sft.config import AdapterConfig
from bistil.sft.delta import base_hash
from bistil.store.artefacts import Store
from bistil.tasks import task as find_task
from bistil.text.corpora import read_lines

FAMILIES = sorted(TOKENIZERS)
LANGUAGE = AdapterConfig(reduction=2, invertible=2, last_layer=True)
TASK = AdapterConfig(reduction=4, last_layer=True)


def made(encoder, settings: AdapterConfig, role="language", seed: int = 1) -> Adapter:
    torch.manual_seed(seed)
    module = AdapterModule(encoder.config, settings)
    tensors = {name: 0.3 * torch.randn_like(one) for name, one in module.state_dict().items()}
    return Adapter(settings=settings, role=role, tensors=tensors, base=base_hash(encoder))


@pytest.fixture(scope="module")
def tokenizer_of(world: Path):
    lines = read_lines(world / "corpora" / "qaa.txt")
    return {name: make(lines) for name, make in TOKENIZERS.items()}


def encoder_of(family: str, tokenizers):
    torch.manual_seed(0)
    return of_family(family, tokenizers[family]).base_model.eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(7)
    ids = torch.randint(5, 50, (3, 9))
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    return ids, mask


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        # MAD-X as thesis section 3.2 counts it, with our biases: 12 layers, F and G of half width
        (AdapterConfig(reduction=2, last_layer=True, invertible=1), 7_667_712 + 12 * (384 + 768) + 4 * 384),
        (AdapterConfig(reduction=2, last_layer=True, invertible=2), 7_077_888 + 13_824 + 294_912 + 1_152),
        (AdapterConfig(reduction=2), 11 * (2 * 768 * 384 + 384 + 768)),
        (AdapterConfig(reduction=16, last_layer=True), 12 * (2 * 768 * 48 + 48 + 768)),
    ],
)
def test_the_number_of_values_is_that_of_the_papers(settings: AdapterConfig, count: int) -> None:
    config = BertConfig(hidden_size=768, num_hidden_layers=12)
    with torch.device("meta"):
        module = AdapterModule(config, settings)
    assert sum(one.numel() for one in module.parameters()) == count


def test_one_layer_has_no_room_for_an_adapter_that_leaves_the_last_one_out() -> None:
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    with pytest.raises(InputError, match="`last_layer: true`"):
        AdapterModule(config, AdapterConfig(reduction=4))
    assert len(AdapterModule(config, AdapterConfig(reduction=4, last_layer=True)).layers) == 1


def test_the_invertible_map_is_undone_by_its_inverse_and_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    one = Coupling(16, 2)
    for parameter in one.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    states = torch.randn(4, 5, 16)
    found = one(states)
    assert torch.allclose(one.inverse(found), states, atol=1e-6)
    x1, x2 = states[..., :8], states[..., 8:]
    y1 = x1 + one.F.up(relu(one.F.down(x2)))
    assert torch.equal(found, torch.cat([y1, x2 + one.G.up(relu(one.G.down(y1)))], dim=-1))
    assert not torch.allclose(found, states, atol=0.1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("language_first", [True, False])
def test_a_stack_is_the_task_over_the_language_in_every_architecture(
    family: str, language_first: bool, tokenizer_of
) -> None:
    encoder = encoder_of(family, tokenizer_of)
    language, task = (
        made(encoder, AdapterConfig(reduction=2, last_layer=True)),
        made(encoder, TASK, "task", 2),
    )
    for one in (language, task) if language_first else (task, language):
        one.apply(encoder)
    last, at = blocks(encoder)[-1], len(blocks(encoder)) - 1
    seen: list[torch.Tensor] = []  # the sum before any adapter of the last layer, and after both
    norms_first = architecture(encoder.config).norms_first
    for prepend in (True, False):
        if norms_first:  # there, the sum without the residual, which is added behind
            last.outer.register_forward_hook(lambda _, args, out: seen.append(out), prepend=prepend)
        else:
            last.outer_norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]), prepend=prepend)
    with torch.no_grad():
        encode(encoder, *batch(), states=True)
        states = seen[0]
        for one in (language, task):
            down, down_bias, up, up_bias = (
                one.tensors[f"layers.{at}.{name}"]
                for name in ("down.weight", "down.bias", "up.weight", "up.bias")
            )
            inside = states if norms_first else last.outer_norm.forward(states)
            states = states + relu(inside @ down.T + down_bias) @ up.T + up_bias
    assert torch.allclose(seen[1], states, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_comes_off_without_a_trace_however_often(family: str, tokenizer_of) -> None:
    encoder = encoder_of(family, tokenizer_of)
    ids, mask = batch()
    with torch.no_grad():
        bare, names = encode(encoder, ids, mask, states=True).last, set(encoder.state_dict())
        base = base_hash(encoder)
        handle = made(encoder, LANGUAGE).apply(encoder)
        worn = encode(encoder, ids, mask, states=True).last
        assert not torch.allclose(worn, bare, atol=1e-3)
        for _ in range(20):
            handle.revert()
            handle.again()
        assert torch.equal(encode(encoder, ids, mask, states=True).last, worn)
        handle.revert()
        assert torch.equal(encode(encoder, ids, mask, states=True).last, bare)
    assert (set(encoder.state_dict()), base_hash(encoder)) == (names, base)
    with pytest.raises(InputError, match="taken off already"):
        handle.revert()


def test_one_that_starts_at_zero_changes_nothing_and_two_of_a_role_are_refused() -> None:
    encoder = masked_lm(50).bert
    ids, mask = batch()
    settings = AdapterConfig(reduction=2, invertible=2, start="zero")
    module = AdapterModule(encoder.config, settings)
    one = Adapter(settings=settings, role="language", tensors=module.state_dict(), base=base_hash(encoder))
    with torch.no_grad():
        bare = encode(encoder, ids, mask, states=True).last
        one.apply(encoder)
        assert torch.equal(encode(encoder, ids, mask, states=True).last, bare)
    with pytest.raises(InputError, match="wears a language adapter already"):
        one.apply(encoder)


def test_the_inverse_stands_between_the_heads_transform_and_the_decoder() -> None:
    mlm = masked_lm(50)
    one = made(mlm.bert, LANGUAGE)
    one.apply(mlm.bert, mlm.get_output_embeddings())
    hidden = torch.randn(4, 32)
    module = AdapterModule(mlm.config, LANGUAGE)
    module.load_state_dict(dict(one.tensors))
    assert module.inverse is not None
    with torch.no_grad():
        transformed = module.inverse.inverse(mlm.cls.predictions.transform(hidden))
        expected = transformed @ mlm.get_output_embeddings().weight.T + mlm.cls.predictions.bias
        assert torch.allclose(mlm_logits(mlm, hidden), expected, atol=1e-5)


def test_a_file_comes_back_and_says_what_does_not_fit(tmp_path: Path) -> None:
    encoder = masked_lm(50).bert
    one = made(encoder, LANGUAGE)
    file = tmp_path / "delta.safetensors"
    one.save(file)
    back = load_worn(file, base=base_hash(encoder))
    assert isinstance(back, Adapter)
    assert (back.settings, back.role, back.trained) == (LANGUAGE, "language", one.trained)
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in one.tensors.items())
    with pytest.raises(InputError, match="base"):
        load_worn(file, base="0" * 64)
    with pytest.raises(InputError, match="adapter for 2 layers of 32 was expected"):
        one.apply(masked_lm(50, layers=2).bert)
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["bistil_sft"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    for changed in (
        {"role": "both"},
        {"settings": {"reduction": 0}},
        {"settings": None},
        {"settings": {"no": 1}},
    ):
        save_file(tensors, file, metadata={"bistil_sft": json.dumps({**header, **changed})})
        with pytest.raises(InputError):
            load_worn(file)


@pytest.mark.parametrize(
    ("settings", "hidden"),
    [
        (AdapterConfig(reduction=64), 32),
        (AdapterConfig(reduction=2, invertible=2), 33),
        (AdapterConfig(reduction=2, invertible=17), 32),
    ],
)
def test_sizes_that_cannot_be_are_refused(settings: AdapterConfig, hidden: int) -> None:
    with pytest.raises(InputError, match="values"):
        AdapterModule(BertConfig(hidden_size=hidden, num_hidden_layers=2), settings)


def test_the_least_sizes_that_can_be_are_taken() -> None:
    settings = AdapterConfig(reduction=32, invertible=16)
    module = AdapterModule(BertConfig(hidden_size=32, num_hidden_layers=2), settings)
    assert module.layers[0].down.out_features == module.inverse.F.down.out_features == 1  # type: ignore[union-attr]


def test_values_that_are_not_finite_are_refused() -> None:
    encoder = masked_lm(50).bert
    one = made(encoder, TASK, "task")
    one.tensors["layers.0.up.bias"][0] = torch.nan
    with pytest.raises(InputError, match=r"layers\.0\.up\.bias"):
        one.apply(encoder)


PHASE = {"steps": 3, "learning_rate": 1e-3, "evaluations": 1}
SETTINGS = {
    "systems": ["teacher-madx", "teacher-madx-task", "teacher-adapter"],
    "targets": {"ner": ["qac"]},
    "language_adapter": {"adapter": {"reduction": 2, "invertible": 2}, "sparse": PHASE},
    "task": {
        "ner": {
            "batch_size": 4,
            "max_length": 48,
            "sft": {"lottery": {"density": 0.1}, "dense": PHASE, "sparse": PHASE},
            "adapter": {"adapter": {"reduction": 4}, "sparse": PHASE},
        }
    },
}


@pytest.mark.slow
def test_mad_x_runs_from_the_yaml_to_the_finished_folder(experiment, data, tmp_path: Path) -> None:
    small = experiment(**SETTINGS)
    pipeline = Pipeline(small, data, Store(tmp_path / "store"))
    pipeline.check()
    cells = {cell.system: cell for cell in small.cells()}
    sfts = {name: pipeline.task_sft(cell) for name, cell in cells.items()}
    assert sfts["teacher-madx"].id == sfts["teacher-madx-task"].id != sfts["teacher-adapter"].id
    own = pipeline.language_adapter("qac")
    assert (own.kind, own.manifest["config"]["sft"]["adapter"]["invertible"]) == ("language-adapter", 2)
    teacher = pipeline.fresh_teacher().encoder
    base = base_hash(teacher)
    for artefact in (own, *sfts.values()):
        assert load_worn(artefact.path("delta.safetensors"), base=base).trained == artefact.metrics["values"]
    scores = {name: pipeline.evaluation(cell) for name, cell in cells.items()}
    assert len({one.id for one in scores.values()}) == 3
    sizes = {name: one.metrics["encoder_parameters"] for name, one in scores.items()}
    assert sizes["teacher-madx"] - sizes["teacher-madx-task"] == own.metrics["values"]
    [row] = [row for row in pipeline.rows(cells["teacher-madx"]) if row["metric"] == "f1"]
    assert (row["adaptation"], row["learning"]) == ("adapter", "adapter")
    model, task, tokenizer = pipeline.task_model(cells["teacher-madx"], "qac")
    examples = find_task("ner").read(data.file("ner", "qac", "test"))
    expected = predict_all(model, task, examples, tokenizer, max_length=48)
    folder = pipeline.deployed(cells["teacher-madx"]).path("model")
    assert {"language-adapter.safetensors", "task-adapter.safetensors", "head.safetensors"} <= {
        one.name for one in folder.iterdir()
    }
    for name in ("ner", "parsing"):
        assert "bistil predict" in code(name, folder, segments=True, bare=False, longest=64)
    finished, task, tokenizer = load_deployed(folder)
    assert predict_all(finished, task, examples, tokenizer, max_length=48) == expected
    if not missing():
        rows = task.collate(task.encode(examples[:2], tokenizer, max_length=48), tokenizer.pad_token_id)
        shutil.copytree(folder, tmp_path / "graph")
        in_place(tmp_path / "graph", "onnx", finished.encoder, finished.inputs(rows))
        assert (tmp_path / "graph" / GRAPHS["onnx"]).is_file()
        graph, task, tokenizer = load_deployed(tmp_path / "graph")
        assert predict_all(graph, task, examples, tokenizer, max_length=48) == expected


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"language_sft": SETTINGS["language_adapter"]}, "under `language_sft`"),
        (
            {"task": {"ner": {**SETTINGS["task"]["ner"], "sft": SETTINGS["language_adapter"]}}},
            "under `task.ner.sft`",
        ),
        ({"language_adapter": None}, "expected under `language_adapter`"),
        (
            {"language_adapter": {"lottery": {"density": 0.1}, "dense": PHASE, "sparse": PHASE}},
            "`adapter` and its",
        ),
        (
            {"task": {"ner": {**SETTINGS["task"]["ner"], "adapter": None}}},
            "expected under `task.ner.adapter`",
        ),
        (
            {"variants": {"odd": {"of": "teacher-ltsft", "learning": {"adapter": True}}}, "systems": ["odd"]},
            "goes with language adapters",
        ),
        (
            {
                "variants": {"odd": {"of": "bistil-st", "adaptation": {"worn": "adapter"}}},
                "systems": ["odd:2"],
            },
            "worn by the whole teacher",
        ),
    ],
)
def test_adapters_without_settings_and_mixtures_are_refused(experiment, changed, told: str) -> None:
    with pytest.raises(InputError, match=told):
        experiment(**{**SETTINGS, **changed})


def test_a_plan_of_adapters_counts_their_stages_and_finds_no_misfit_in_them(experiment) -> None:
    small = experiment(**SETTINGS)
    stages = foresee(small)
    assert sorted({one.kind for one in stages.values()}) == [
        "evaluation",
        "language-adapter",
        "task-sft",
        "timing",
    ]
    config = AutoConfig.for_model("bert", num_hidden_layers=6, hidden_size=32, num_attention_heads=2)
    costs = [Estimator(stages, config).cost(one) for one in stages.values() if one.kind == "language-adapter"]
    assert [cost.steps for cost in costs] == [3, 3]
    shipped = Experiment.read(ROOT / "data" / "experiments" / "miniworld-adapters.yaml")
    assert misfits(shipped) == []


def test_a_batch_is_read_in_its_own_languages_adapter(wordpiece, data) -> None:
    task = find_task("ner")
    examples = {code: task.read(data.file("ner", code, "train"))[:4] for code in ("qaa", "qab")}
    task = task.for_training([one for own in examples.values() for one in own])
    encoder = masked_lm(len(wordpiece)).bert
    model = TaskModel(encoder=encoder, head=task.head(32)).eval()
    clothes = {code: made(encoder, LANGUAGE, seed=seed) for seed, code in enumerate(examples)}
    learning = TaskLearning(model, task, Wardrobe(encoder, clothes))
    plain = TaskLearning(model, task)
    batches = {
        code: {**task.collate(task.encode(own, wordpiece, max_length=48), 0), "language": code}
        for code, own in examples.items()
    }
    with torch.no_grad():
        found = [float(learning(batches[code])[0]) for code in ("qaa", "qab", "qaa", "qab")]
        learning(dict(batches["qaa"], language="other"))  # which has none
        for code, one in clothes.items():
            handle = one.apply(encoder)
            expected = float(plain(batches[code])[0])
            handle.revert()
            assert found[list(clothes).index(code) :: 2] == [expected, expected]


@pytest.mark.slow
def test_few_examples_of_the_target_are_learnt_in_its_adapter(experiment, data, tmp_path: Path) -> None:
    rows = [{"language": "source"}, {"language": "target", "most": 4, "upsample": 3}]
    few = {"few": {"of": "teacher-madx", "learning": {"rows": rows}}}
    small = experiment(**{**SETTINGS, "systems": ["few"], "variants": few, "targets": {"ner": ["qab"]}})
    pipeline = Pipeline(small, data, Store(tmp_path / "store"))
    [cell] = small.cells()
    _, examples = pipeline.training(cell)
    assert {code: len(own) for code, own in examples.items()} == {"qaa": 24, "qab": 12}
    assert examples["qab"][:4] == examples["qab"][4:8] == examples["qab"][8:]
    inputs = pipeline.task_sft(cell).manifest["inputs"]
    assert inputs["sft qab"] == pipeline.language_adapter("qab").id
    assert inputs["source sft"] == pipeline.language_adapter("qaa").id
    [row] = [row for row in pipeline.rows(cell) if row["metric"] == "f1"]
    assert row["regime"] == "source+target:4 x3"
