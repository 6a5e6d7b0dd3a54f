"""The stages of MAD-G: the generator of language adapters, and what it makes for a language."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bistil.adapt.worn import WORN
from bistil.pipeline.inputs import Inputs, keep_history
from bistil.pipeline.students import LANGUAGE_SEED
from bistil.sft.config import AdapterConfig, SftConfig
from bistil.sft.generator import (
    Further,
    GeneratorConfig,
    Kind,
    load_generated,
    save_generated,
    train_generator,
)
from bistil.sft.language import train_language_sft
from bistil.store.artefacts import Artefact
from bistil.text.corpora import cut

GENERATOR = "generator.safetensors"


def generator_config(inputs: Inputs, kind: Kind | None) -> GeneratorConfig:
    """The settings of the experiment's generator, of another kind where that is asked for."""
    asked = inputs.experiment.generator
    assert asked is not None, "systems that wear what is generated are checked to have settings for it"
    return dataclasses.replace(asked, kind=kind or asked.kind, further=None)


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


def make_further(inputs: Inputs, code: str, words: int, generated: Artefact | None) -> Artefact:
    """An adapter that is trained on the first words of a language's text, in the file that holds what can be
    worn.

    Args:
        generated: what it starts from; None for a random one of the same form.
    """
    config = generator_config(inputs, None)
    asked = inputs.experiment.generator
    how = (asked and asked.further) or Further()
    form = AdapterConfig(reduction=config.reduction, last_layer=True)
    sft = SftConfig(adapter=form, sparse=how.schedule, seed=LANGUAGE_SEED)
    text = dataclasses.replace(inputs.text_of((code,)), batch_size=how.batch_size)

    def build(folder: Path) -> Mapping[str, Any]:
        mlm, tokenizer = inputs.fresh_teacher().mlm, inputs.teacher.tokenizer
        lines = inputs.first_words(code, words)
        adapter, history = train_language_sft(
            inputs.placed(mlm),
            tokenizer,
            code,
            cut(tokenizer, lines, text.length, packed=text.packed),
            text=text,
            sft=sft,
            run=inputs.run(folder, f"adapter of {code} on {words} words"),
            before=load_generated(generated.path(WORN)) if generated else None,
        )
        read = sum(len(line.split()) for line in lines)
        return {**inputs.keep(folder, adapter, history, "loss"), "words": read}

    made_from: dict[str, Artefact | str] = {
        "base": inputs.teacher_input,
        **inputs.texts((code,)),
        **({"start": generated} if generated else {}),
    }
    return inputs.store.run("further-adapter", {"text": text, "sft": sft, "words": words}, made_from, build)
