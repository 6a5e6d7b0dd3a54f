"""The stages of MAD-G: the generator of language adapters, and what it makes for a language."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bistil.adapt.worn import WORN
from bistil.pipeline.inputs import Inputs, keep_history
from bistil.pipeline.students import LANGUAGE_SEED
from bistil.sft.generator import GeneratorConfig, Kind, save_generated, train_generator
from bistil.store.artefacts import Artefact

GENERATOR = "generator.safetensors"


def generator_config(inputs: Inputs, kind: Kind | None) -> GeneratorConfig:
    """The settings of the experiment's generator, of another kind where that is asked for."""
    asked = inputs.experiment.generator
    assert asked is not None, "systems that wear what is generated are checked to have settings for it"
    return dataclasses.replace(asked, kind=kind or asked.kind)


def make_generator(inputs: Inputs, kind: Kind | None) -> Artefact:
    """The generator of language adapters of the teacher: `generator.safetensors`."""
    config, codes, text = (
        generator_config(inputs, kind),
        inputs.generator_languages,
        inputs.text_of(inputs.generator_languages),
    )

    def build(folder: Path) -> Mapping[str, Any]:
        made, history = train_generator(
            inputs.placed(inputs.fresh_teacher().mlm),
            inputs.teacher.tokenizer,
            {code: inputs.blocks(code) for code in codes},
            {code: inputs.typology.vector(code) for code in codes},
            names=inputs.typology.names,
            text=text,
            settings=config,
            seed=LANGUAGE_SEED,
            run=inputs.run(folder, f"generator of adapters, {config.kind}"),
        )
        made.save(folder / GENERATOR)
        values = sum(one.numel() for one in made.parameters())
        return {**keep_history(folder, history, "loss"), "values": values, **inputs.where}

    made_from: dict[str, Artefact | str] = {
        "base": inputs.teacher_input,
        "typology": inputs.typology.digest(codes),
        **inputs.texts(codes),
    }
    settings = {"text": text, "generator": dataclasses.replace(config, languages=())}
    return inputs.store.run("generator", settings, made_from, build)


def make_generated(inputs: Inputs, code: str, generator: Artefact) -> Artefact:
    """What a generator makes for a language: its features and the generator's place, in the file that holds
    what can be worn.
    """

    def build(folder: Path) -> Mapping[str, Any]:
        features = inputs.typology.vector(code)
        save_generated(folder / WORN, generator.path(GENERATOR), features)
        return {"features": inputs.typology.features(code)}

    made_from: dict[str, Artefact | str] = {
        "generator": generator,
        "typology": inputs.typology.digest([code]),
    }
    return inputs.store.run("generated-adapter", {}, made_from, build)
