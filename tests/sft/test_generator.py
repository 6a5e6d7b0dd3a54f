"""A generator of language adapters: what it computes, how many values it has, what of it learns, how
languages are drawn, its files, and that what it makes is worn like any other adapter.
"""

import dataclasses
import json
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import ROOT, masked_lm
from transformers import AutoConfig

from bistil import batch
from bistil.adapt.worn import WORN, load_worn
from bistil.deploy import write
from bistil.deploy.read import load_deployed
from bistil.errors import InputError
from bistil.evaluation.results import read_results
from bistil.evaluation.score import predict_all
from bistil.experiment import Experiment
from bistil.models.load import encode
from bistil.pipeline import Pipeline
from bistil.plan import foresee
from bistil.plan.epochs import counted
from bistil.plan.estimate import Estimator
from bistil.plan.profiles import misfits
from bistil.report.experiment import write_experiment_report
from bistil.sft import generator as room
from bistil.sft.bottleneck import Adapter
from bistil.sft.config import SftConfig
from bistil.sft.delta import base_hash
from bistil.sft.generator import (
    Further,
    Generating,
    Generator,
    GeneratorConfig,
    load_generated,
    save_generated,
    train_generator,
)
from bistil.sft.language import TextConfig
from bistil.store.artefacts import Store
from bistil.systems.learning import Adaptation
from bistil.systems.variants import Variant
from bistil.tasks import task as find_task
from bistil.text.corpora import Blocks, held_out, lines_to_blocks, read_lines
from bistil.text.languages import DataFolder
from bistil.training.loop import Run, Schedule, Stopped
from bistil.training.mlm import evaluate_mlm
from bistil.training.progress import Event
from bistil.workbench.stages import jobs_of, status_of

SCHEDULE = Schedule(steps=6, learning_rate=1e-2, evaluations=3)
BASE = GeneratorConfig(kind="base", embedding=3, reduction=2, schedule=SCHEDULE, batch_size=4)
LS = dataclasses.replace(BASE, kind="ls", layer_embedding=5)
NAMES = ("order=SVO", "order=SOV", "tone")
FEATURES = {
    "qaa": np.array([1, 0, 0], dtype=np.float32),
    "qab": np.array([1, 0, 1], dtype=np.float32),
    "qac": np.array([0, 1, 1], dtype=np.float32),
}


def made(settings: GeneratorConfig, hidden: int = 32, depth: int = 6, base: str = "b") -> Generator:
    torch.manual_seed(3)
    one = Generator(hidden, depth, settings, NAMES, base)
    one.start(1.7)
    return one


@pytest.mark.parametrize(("kind", "count"), [("base", 226_492_416), ("ls", 37_748_736)])
def test_the_number_of_values_is_that_of_the_thesis(kind, count: int) -> None:
    with torch.device("meta"):
        one = Generator(768, 12, GeneratorConfig(kind=kind, schedule=SCHEDULE), ["f"] * 289, "b")
    assert one.weights.numel() == count
    assert sum(p.numel() for p in one.parameters()) == count + 32 * 289 + (12 * 32 if kind == "ls" else 0)


def test_an_adapter_by_hand() -> None:
    one = made(BASE, hidden=4, depth=2)
    for features in FEATURES.values():
        down, up = one(torch.from_numpy(features))
        for layer in range(2):
            theta = one.weights[layer] @ (one.languages @ torch.from_numpy(features))
            assert torch.allclose(down[layer], theta[:8].view(2, 4), atol=1e-7)
            assert torch.allclose(up[layer], theta[8:].view(4, 2), atol=1e-7)


def test_layers_share_weights_and_differ_by_their_embeddings() -> None:
    one = made(LS, hidden=4, depth=3)
    assert one.layers is not None
    one.layers.data[2] = one.layers.data[0]
    features = torch.from_numpy(FEATURES["qab"])
    down, up = one(features)
    assert torch.equal(down[0], down[2])
    assert not torch.equal(down[0], down[1])
    theta = one.weights[0] @ torch.cat([one.languages @ features, one.layers[1]])
    assert torch.allclose(torch.cat([down[1].flatten(), up[1].flatten()]), theta, atol=1e-7)


@pytest.mark.parametrize("settings", [BASE, LS])
def test_gradients_are_those_of_finite_differences(settings: GeneratorConfig) -> None:
    one = made(settings, hidden=4, depth=2).double()
    names, values = zip(*((name, value.detach()) for name, value in one.named_parameters()), strict=True)
    features = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)

    def generated(*given: torch.Tensor):
        return torch.func.functional_call(one, dict(zip(names, given, strict=True)), (features,))

    assert torch.autograd.gradcheck(generated, [value.requires_grad_() for value in values])


@pytest.mark.parametrize("settings", [BASE, LS])
def test_generated_weights_begin_with_the_deviation_of_adapters(settings: GeneratorConfig) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(settings, embedding=32, layer_embedding=32)
    one = Generator(64, 6, config, ["f"] * 40, "b")
    one.start(20.0)
    found = one(torch.tensor([1.0, 0.0] * 20))[0].detach().std()
    assert 0.014 < float(found) < 0.028


def test_bottlenecks_of_no_unit_are_refused() -> None:
    with pytest.raises(InputError, match="at least 64 values"):
        Generator(32, 2, dataclasses.replace(BASE, reduction=64), NAMES, "b")


@pytest.fixture(scope="module")
def texts(world: Path, wordpiece) -> dict[str, Blocks]:
    return {
        code: lines_to_blocks(wordpiece, read_lines(world / "corpora" / f"{code}.txt")[:most], 24)
        for code, most in (("qaa", 140), ("qab", 60))
    }


def trained(texts, wordpiece, folder: Path, settings: GeneratorConfig = LS, **named):
    mlm = masked_lm(len(wordpiece))
    text = TextConfig(length=24, packed=False, mask_share=0.3, held_out_share=0.2)
    run = Run(folder, "generator", **named)
    one, history = train_generator(
        mlm, wordpiece, texts, FEATURES, names=NAMES, text=text, settings=settings, seed=1, run=run
    )
    return mlm.eval(), one, history


def test_only_the_generator_learns_and_its_adapters_are_worn_like_any_other(
    texts, wordpiece, tmp_path: Path
) -> None:
    settings = dataclasses.replace(LS, schedule=Schedule(steps=40, learning_rate=2e-2, evaluations=2))
    mlm, one, history = trained(texts, wordpiece, tmp_path, settings)
    encoder = mlm.bert
    assert base_hash(encoder) == base_hash(masked_lm(len(wordpiece)).bert) == one.base
    assert not hasattr(encoder, "language_adapter")
    scores = [entry for entry in history if "eval_loss" in entry]
    assert {"eval_loss_qaa", "eval_loss_qab"} <= set(scores[-1])
    start = made(settings).state_dict()
    assert all(not torch.equal(start[name], value) for name, value in one.state_dict().items())
    kept_out = {code: own.split(0.2)[1] for code, own in texts.items()}
    batches = held_out(kept_out, wordpiece, batch_size=16, mask_share=0.3)
    bare = evaluate_mlm(mlm, batches)["loss_qab"]
    handle = one.adapter(FEATURES["qab"]).apply(encoder)
    worn = evaluate_mlm(mlm, batches)["loss_qab"]
    handle.revert()
    best = min(scores, key=lambda entry: entry["eval_loss"])
    assert worn == pytest.approx(best["eval_loss_qab"], rel=1e-5)
    assert worn < bare
    assert evaluate_mlm(mlm, batches)["loss_qab"] == bare


@pytest.mark.parametrize("settings", [BASE, LS])
def test_a_batch_gives_the_weights_the_gradient_of_one_generation(
    settings: GeneratorConfig, texts, wordpiece
) -> None:
    """However many sequences there are: that of the generated weights, times what they were made from."""
    mlm = masked_lm(len(wordpiece)).requires_grad_(False)
    one = made(settings)
    objective = Generating(mlm, one, FEATURES)
    handle = room.Hung(mlm.bert, objective.slots[0], "language")
    batch = held_out({"qab": texts["qab"]}, wordpiece, batch_size=16, mask_share=0.3)[0]
    loss, _ = objective(batch)
    first = objective.slots[0].layers[0]
    first.down.retain_grad()
    loss.backward()
    handle.revert()
    assert all(parameter.grad is not None for parameter in one.parameters())
    if settings.kind == "base":
        expected = torch.outer(first.down.grad.flatten(), one.languages @ torch.from_numpy(FEATURES["qab"]))
        assert one.weights.grad is not None
        assert torch.allclose(one.weights.grad[0, : len(expected)], expected, atol=1e-6)
    assert all(parameter.grad is None for parameter in mlm.parameters())


def test_languages_are_drawn_by_capped_sizes(texts, wordpiece, tmp_path: Path, monkeypatch) -> None:
    seen: Counter[str] = Counter()

    def fit(objective, batches, evaluate, run, **named):
        seen.update(batches._language)
        return []

    monkeypatch.setattr(room, "fit", fit)
    long = dataclasses.replace(LS, schedule=Schedule(steps=4000, learning_rate=1e-3))
    for settings, share in ((long, (112 / 48) ** 0.5), (dataclasses.replace(long, cap=12), 1.0)):
        seen.clear()
        trained(texts, wordpiece, tmp_path, settings)
        assert seen["qaa"] / seen["qab"] == pytest.approx(share, rel=0.1)


def test_a_stopped_training_goes_on_to_the_same_weights(texts, wordpiece, tmp_path: Path) -> None:
    _, whole, _ = trained(texts, wordpiece, tmp_path / "whole")
    stop = threading.Event()

    def listener(event: Event) -> None:
        if event.step == 3:
            stop.set()

    with pytest.raises(Stopped):
        trained(texts, wordpiece, tmp_path / "parts", progress=listener, stop=stop)
    _, parts, _ = trained(texts, wordpiece, tmp_path / "parts")
    assert all(torch.equal(parts.state_dict()[name], one) for name, one in whole.state_dict().items())


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Generator, Path, Path]:
    encoder = masked_lm(50).bert
    one = made(LS, base=base_hash(encoder))
    generator, own = tmp_path / "a" / "generator.safetensors", tmp_path / "b" / "delta.safetensors"
    one.save(generator)
    save_generated(own, generator, FEATURES["qac"])
    return one, generator, own


def test_files_come_back_and_a_generated_adapter_is_computed_when_it_is_read(saved) -> None:
    one, generator, own = saved
    encoder = masked_lm(50).bert
    back = Generator.load(generator, base=base_hash(encoder))
    assert (back.settings, back.features) == (LS, NAMES)
    assert all(torch.equal(back.state_dict()[name], value) for name, value in one.state_dict().items())
    adapter = load_worn(own, base=base_hash(encoder))
    assert isinstance(adapter, Adapter)
    assert own.stat().st_size < 2000
    torch.manual_seed(1)
    ids = torch.randint(5, 50, (3, 9))
    with torch.no_grad():
        bare = encode(encoder, ids, torch.ones_like(ids), states=True).last
        handle = adapter.apply(encoder)
        worn = encode(encoder, ids, torch.ones_like(ids), states=True).last
        handle.revert()
        assert not torch.allclose(worn, bare, atol=1e-3)
        assert torch.equal(encode(encoder, ids, torch.ones_like(ids), states=True).last, bare)
    with pytest.raises(InputError, match="base"):
        load_worn(own, base="0" * 64)


def changed(file: Path, change, tensors=lambda found: found) -> None:
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["bistil_sft"])
        found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    found = tensors(found)
    header = {**header, "digest": room.files.digest(found), **change}
    save_file(found, file, metadata={"bistil_sft": json.dumps(header)})


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "bottleneck adapter"},
        {"settings": None},
        {"settings": {"kind": "other"}},
        {"hidden": -1},
        {"hidden": "32"},
        {"hidden": 16},
        {"layers": True},
        {"features": ["one"]},
        {"features": [1, 2, 3]},
        {"features": None},
        {"digest": "0"},
    ],
)
def test_a_generator_that_is_none_is_bad_input(saved, change) -> None:
    _, generator, _ = saved
    changed(generator, change)
    with pytest.raises(InputError):
        Generator.load(generator)


def test_a_generator_of_other_numbers_is_bad_input(saved) -> None:
    _, generator, own = saved
    changed(generator, {}, lambda found: {**found, "languages": found["languages"].half()})
    with pytest.raises(InputError, match="not those that its header speaks of"):
        Generator.load(generator)
    with pytest.raises(InputError, match="another generator"):
        load_generated(own)


def test_values_that_are_not_finite_are_refused(saved) -> None:
    _, generator, _ = saved
    changed(generator, {}, lambda found: {**found, "languages": found["languages"] * torch.nan})
    with pytest.raises(InputError, match="finite values"):
        Generator.load(generator)


@pytest.mark.parametrize("change", [{"generator": "away.safetensors"}, {"generator": None}])
def test_a_generated_adapter_without_its_generator_is_bad_input(saved, change) -> None:
    _, _, own = saved
    changed(own, change)
    with pytest.raises(InputError):
        load_worn(own)


@pytest.mark.parametrize("tensors", [{}, {"features": torch.ones(4)}, {"other": torch.ones(3)}])
def test_a_generated_adapter_of_other_features_is_bad_input(saved, tensors) -> None:
    _, _, own = saved
    changed(own, {}, lambda found: tensors or {"none": torch.ones(1)})
    with pytest.raises(InputError, match="should hold the 3 features"):
        load_worn(own)


PHASE = {"steps": 3, "learning_rate": 1e-3, "evaluations": 1}
MADG = ["teacher-madg", "teacher-madg-ls", "teacher-madg-source", "teacher-madx-nearest"]
SETTINGS: dict[str, Any] = {
    "systems": [*MADG, "floor"],
    "targets": {"ner": ["qac"]},
    "typology": {"from": "table"},
    "generator": {
        "languages": ["qaa", "qab"],
        "embedding": 4,
        "layer_embedding": 4,
        "batch_size": 4,
        "schedule": PHASE,
    },
    "language_adapter": {"adapter": {"reduction": 2}, "sparse": PHASE},
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
@pytest.mark.usefixtures("forked")
def test_mad_g_runs_from_the_yaml_to_the_finished_folder(experiment, data, tmp_path: Path) -> None:
    """The target has no text at all."""
    folder = tmp_path / "data"
    shutil.copytree(data.root, folder)
    (folder / "corpora" / "qac.txt").unlink()
    own = DataFolder(folder)
    small = experiment(**SETTINGS)
    place = batch.Place(folder, tmp_path / "store")
    pipeline = Pipeline(small, own, Store(place.store))
    pipeline.check()
    assert batch.run(small, place, workers=1, say=lambda text: None) == []
    cells = {cell.system: cell for cell in small.cells()}
    generators = [pipeline.generator(kind) for kind in (None, "base", "ls")]
    assert generators[0].id == generators[1].id != generators[2].id
    assert set(generators[0].manifest["inputs"]) == {"base", "typology", "text qaa", "text qab"}
    target, source = pipeline.generated_adapter("qac"), pipeline.generated_adapter("qaa")
    worn = {name: pipeline.evaluation(cells[name]).manifest["inputs"]["target sft"] for name in MADG}
    near = pipeline.typology.nearest("qac", ["qaa", "qab"])[0]
    assert worn == {
        "teacher-madg": target.id,
        "teacher-madg-ls": pipeline.generated_adapter("qac", "ls").id,
        "teacher-madg-source": source.id,
        "teacher-madx-nearest": pipeline.language_adapter(near).id,
    }
    assert target.metrics["features"] == pipeline.typology.features("qac")
    sfts = {name: pipeline.task_sft(cells[name]).id for name in MADG}
    assert sfts["teacher-madg"] == sfts["teacher-madg-source"] != sfts["teacher-madg-ls"]

    rows = batch.rows(batch.reader(small, place))
    page = write_experiment_report(tmp_path / "report", small, rows, pipeline.store, failures=[])
    told = {row["system"]: row["adaptation"] for row in read_results(page.parent / "results.csv")}
    assert [told[name] for name in MADG] == [
        "generated",
        "generated ls",
        "generated source",
        "adapter nearest",
    ]
    for cell in (cells["teacher-madg"], cells["teacher-madx-nearest"]):
        status = [status_of(pipeline, job) for job in jobs_of(small, cell)]
        assert all(stage.there for stage in status)
    write.export(pipeline, cells["teacher-madg"], "folder", tmp_path / "taken", say=lambda line: None)
    assert {"language-adapter.safetensors", "task-adapter.safetensors"} <= {
        one.name for one in (tmp_path / "taken").iterdir()
    }
    file = write.write_adapter(pipeline, cells["teacher-madg"], "qab", tmp_path / "one")
    alone, whole = load_worn(file), Generator.load(generators[0].path("generator.safetensors"))
    made_of = whole.adapter(pipeline.typology.vector("qab"))
    assert isinstance(alone, Adapter)
    assert all(torch.equal(alone.tensors[name], one) for name, one in made_of.tensors.items())
    with pytest.raises(InputError, match="A new folder was expected"):
        write.write_adapter(pipeline, cells["teacher-madg"], "qab", tmp_path / "one")
    with pytest.raises(InputError, match="wears none"):
        write.write_adapter(pipeline, cells["floor"], "qab", tmp_path / "two")
    model, task, tokenizer = pipeline.task_model(cells["teacher-madg"], "qac")
    examples = find_task("ner").read(data.file("ner", "qac", "test"))
    expected = predict_all(model, task, examples, tokenizer, max_length=48)
    finished, task, tokenizer = load_deployed(tmp_path / "taken")
    assert predict_all(finished, task, examples, tokenizer, max_length=48) == expected


def test_an_adapter_is_trained_further_on_a_few_words(experiment, data, tmp_path: Path) -> None:
    names = ["teacher-madg", "teacher-madg-ft", "teacher-rand-ft", "short"]
    still = {**PHASE, "learning_rate": 1e-30}
    further = {"schedule": still, "batch_size": 2}
    small = experiment(
        **{**SETTINGS, "systems": names, "generator": {**SETTINGS["generator"], "further": further}},
        variants={"short": {"of": "teacher-madg-ft", "adaptation": {"words": 200}}},
    )
    kinds = Counter(one.kind for one in foresee(small, data, Store(tmp_path / "plan")).values())
    assert (kinds["further-adapter"], kinds["task-sft"], kinds["generator"]) == (3, 1, 1)
    pipeline = Pipeline(small, data, Store(tmp_path / "store"))
    assert "qac" in pipeline.codes
    cells = {cell.system: cell for cell in small.cells()}
    assert small.system("short").axes["adaptation"] == "generated from generated by 200 words"
    warm, cold = pipeline.worn(cells["short"], "qac"), pipeline.further_adapter("qac", "random", 200)
    assert warm is not None
    lines = pipeline.first_words("qac", 200)
    assert lines == pipeline.lines("qac")[: len(lines)]
    assert (
        sum(len(line.split()) for line in lines[:-1]) < 200 <= warm.metrics["words"] == cold.metrics["words"]
    )
    made: Any = load_worn(pipeline.generated_adapter("qac").path(WORN))
    starts: list[Any] = [load_worn(one.path(WORN)) for one in (warm, cold)]
    same, different = (
        all(torch.allclose(start.tensors[name], one, atol=1e-20) for name, one in made.tensors.items())
        for start in starts
    )
    assert (same, different) == (True, False)
    assert starts[1].settings == starts[0].settings == made.settings
    moving = dataclasses.replace(small.generator, further=None)
    other = Pipeline(dataclasses.replace(small, generator=moving), data, pipeline.store)
    assert other.generator().id == pipeline.generator().id
    for code, training in (("qaa", False), ("qac", True)):
        worn = pipeline.worn(cells["short"], code, in_training=training)
        assert worn == pipeline.generated_adapter(code)
    config = {
        "text": small.text,
        "sft": SftConfig(adapter=made.settings, sparse=Further().schedule),
        "words": 200,
    }
    found = counted(pipeline, config, ("qac",))["sft"].sparse.steps
    assert 0 < found < counted(pipeline, {**config, "words": 10_000}, ("qac",))["sft"].sparse.steps
    few = dataclasses.replace(
        small, variants={"short": Variant(of="teacher-madg-ft", adaptation={"words": 2})}
    )
    with pytest.raises(InputError, match="Text for at least two blocks"):
        Pipeline(few, data, Store(tmp_path / "few")).check()
    with pytest.raises(InputError, match="`start` and `words` go together"):
        Adaptation(worn="adapter", start="random", words=5)


def test_a_plan_knows_its_stages_with_and_without_data(experiment, data, tmp_path: Path) -> None:
    small = experiment(**SETTINGS)
    for stages in (foresee(small), foresee(small, data, Store(tmp_path / "store"))):
        kinds = Counter(one.kind for one in stages.values())
        assert kinds["generator"] == 2
        assert kinds["generated-adapter"] == 4  # source and target, of both
        assert kinds["task-sft"] == 3
        config = AutoConfig.for_model("bert", num_hidden_layers=6, hidden_size=32, num_attention_heads=2)
        costs = [Estimator(stages, config).cost(one) for one in stages.values() if one.kind == "generator"]
        assert [cost.steps for cost in costs] == [3, 3]
        assert all(cost.flops > 0 for cost in costs)
    assert "nearest_adapter" in {one.job.stage for one in foresee(small).values()}
    shipped = Experiment.read(ROOT / "data" / "experiments" / "miniworld-madg.yaml")
    assert shipped.generator is not None
    targets = {code for codes in shipped.targets.values() for code in codes}
    unseen = "qac qbc qcc qdb qec qbe qce qdd qee qfd qde qfe qge qhe"  # by data/miniworld-wide.yaml
    assert targets - set(shipped.generator.languages) == set(unseen.split())
    assert misfits(shipped) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"typology": None}, "needs features of languages"),
        ({"generator": None}, "Settings of a generator"),
        ({"generator": None, "systems": ["teacher-madx-nearest"]}, "`among` under `typology`"),
        ({"language_adapter": None}, "expected under `language_adapter`"),
        ({"generator": {"languages": ["qaa"], "schedule": PHASE}}, "of two languages at least"),
        ({"generator": {"languages": ["qaa", "qaa"], "schedule": PHASE}}, "none of them twice"),
        (
            {
                "variants": {"odd": {"of": "teacher-ltsft", "adaptation": {"of": "source"}}},
                "systems": ["odd"],
            },
            "`of: source` with `worn: sft`",
        ),
        (
            {
                "variants": {"odd": {"of": "teacher-madg", "adaptation": {"of": "nearest"}}},
                "systems": ["odd"],
            },
            "`of: nearest` is for `worn: adapter`",
        ),
        (
            {
                "variants": {"odd": {"of": "teacher-madx", "adaptation": {"generator": "ls"}}},
                "systems": ["odd"],
            },
            "`worn: generated`",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(experiment, changed, told: str) -> None:
    with pytest.raises(InputError, match=told):
        experiment(**{**SETTINGS, **changed})


def test_languages_without_text_or_features_are_told_all_at_once(experiment, data, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data.root, folder)
    for code in ("qab", "qac"):
        (folder / "corpora" / f"{code}.txt").unlink()
    generator = {**SETTINGS["generator"], "languages": ["qaa", "qab", "qac"]}
    small = experiment(**{**SETTINGS, "generator": generator})
    with pytest.raises(InputError, match="qab, qac have none"):
        Pipeline(small, DataFolder(folder), Store(tmp_path / "store")).check()
    (folder / "typology.csv").write_text("code,x\nqaa,1\n")
    some = Pipeline(experiment(**SETTINGS), DataFolder(folder), Store(tmp_path / "store"))
    with pytest.raises(InputError, match="have none"):
        some.check()
    every = experiment(**{**SETTINGS, "generator": {"schedule": PHASE}})
    (folder / "typology.csv").write_text("code,x\nqaa,1\nqac,0\n")
    one = Pipeline(every, DataFolder(folder), Store(tmp_path / "store"))
    assert one.generator_languages == ("qaa",)
    with pytest.raises(InputError, match="two languages at least"):
        one.check()
