"""What is checked before any long work starts: whatever would fail later."""

from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig

from bistil.distil.width import check_drf
from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.models.architectures import longest_sequence, student_config
from bistil.models.attention import can_note
from bistil.models.config import read_config
from bistil.models.load import Teacher
from bistil.models.packaged import teacher_folder
from bistil.pipeline.gathered import check_gathered
from bistil.pipeline.inputs import Inputs
from bistil.pipeline.started import frozen_parts
from bistil.sft import peers
from bistil.sft.lottery import check_parts
from bistil.systems.layers import layer_pairs, start_layers, student_depth
from bistil.systems.system import System
from bistil.tasks import RETRIEVAL, column
from bistil.tasks import task as find_task
from bistil.tasks.gold import check_known, count, lacking, warning
from bistil.tasks.retrieval import parallel
from bistil.text.corpora import check_enough
from bistil.text.languages import check_known as check_codes
from bistil.vocab.family import family_of


def check(inputs: Inputs) -> list[str]:
    """Fail now on lengths, layer maps and reduction factors that cannot be, and on every file that will be
    read; return warnings of what can be run but changes what a score means.

    Raises:
        InputError: at the first thing that cannot work.
    """
    teacher = inputs.uncut_teacher()
    _check_lengths(inputs, teacher)
    _check_students(inputs, teacher)
    experiment, data = inputs.experiment, inputs.data
    check_codes(experiment.weighed, data.languages)
    for target in experiment.targets.get(RETRIEVAL, ()):
        parallel(data, experiment.source, target)
    asked = (experiment.language_sft, *(settings.sft for settings in experiment.task.values()))
    systems = [inputs.system(cell) for cell in experiment.cells()]
    if any(one.learning.peft for one in systems) or any(sft and sft.peft for sft in asked):
        peers.library()
    read = {
        (name, code, split): find_task(name).read(data.file(column(name), code, split))
        for name, code, split in inputs.task_files
    }
    for task, targets in experiment.tuned.items():
        of_source = getattr(find_task(task), "labels_of_source", False) and any(
            name[:2] == (task, experiment.source) and name[2] != "test" for name in read
        )
        learnt = [
            one
            for (name, code, split), found in read.items()
            if name == task and split != "test" and (code == experiment.source or not of_source)
            for one in found
        ]
        for code in (*targets, experiment.source):
            if (tested := read.get((task, code, "test"))) is not None:
                check_known(task, learnt, tested, data.file(column(task), code, "test"))
    _check_typology(inputs)
    for name in experiment.tuned:
        check_gathered(inputs, name)
    packed = experiment.text.packed
    for cell in experiment.cells():
        if words := inputs.system(cell).adaptation.words:
            few, path = inputs.first_words(cell.target, words), data.text(cell.target)
            check_enough(teacher.tokenizer, few, experiment.text.length, path, packed=packed)
    for code in inputs.codes:
        check_enough(
            teacher.tokenizer, inputs.lines(code), experiment.text.length, data.text(code), packed=packed
        )
    return [*_unlearnt(inputs, read)]


def _unlearnt(inputs: Inputs, read: Mapping[tuple[str, str, str], list[Any]]) -> Iterator[str]:
    """A warning for each file to validate or test on with labels that the source's training file lacks."""
    source = inputs.experiment.source
    for (task, code, split), examples in read.items():
        train = read.get((task, source, "train"))
        if train is None or split == "train":
            continue
        if labels := lacking(count(task, train), count(task, examples)):
            yield warning(task, str(inputs.data.file(column(task), code, split)), labels, [source])


def _check_typology(inputs: Inputs) -> None:
    """Refuse languages without the features or the text that generated or nearest adapters need."""
    experiment = inputs.experiment
    cells = [cell for cell in experiment.cells() if inputs.system(cell).adaptation.needs_features]
    generated = any(inputs.system(cell).adaptation.worn == "generated" for cell in cells)
    if not cells:
        return
    learnt = generated or not experiment.typology_among
    trained = inputs.generator_languages if learnt else ()
    lacking = [code for code in trained if not inputs.data.text(code).is_file()]
    if lacking or (learnt and len(trained) < 2):
        raise InputError(
            "Text of two languages at least was expected for the generator, and of each of its `languages`,"
            f" but {', '.join(lacking) or 'all but one'} have none. Give them a corpus or leave them out."
        )
    worn = [code for cell in cells for code in (*inputs.learnt_from(cell), cell.target)]
    inputs.typology.check(dict.fromkeys((*trained, *experiment.typology_among, *worn)))


def _check_lengths(inputs: Inputs, teacher: Teacher) -> None:
    """Refuse sequences that are longer than a teacher's positions, and more labels than one has tokens."""
    experiment, most = inputs.experiment, longest_sequence(teacher.encoder.config)
    longest = max(experiment.text.length, *(experiment.task[task].max_length for task in experiment.tuned), 0)
    _check_length(experiment.teacher, most, longest)
    asked = set[tuple[str, int, int]]()  # of each other teacher: the length of what it reads, and the labels
    for cell in experiment.cells():
        system = inputs.system(cell)
        if system.model or system.own_teacher:
            asked.add((system.model or inputs.merging(cell).taught_by[cell.target][0], longest, 0))
        if system.merges:
            how = inputs.merging(cell)
            taught = {name for names in how.teaches.values() for name in names}
            asked |= {(name, experiment.text.length, how.k) for name in taught}
    for name, length, labels in sorted(asked):
        if place := experiment.teachers[name].model:  # one that its pretraining file makes has no size yet
            config = read_config(teacher_folder(place))
            _check_length(place, longest_sequence(config), length)
            if labels > config.vocab_size:
                raise InputError(
                    f"A `k` of at most the {config.vocab_size} tokens of the teacher {name} was expected"
                    f" under `merge`, but got {labels}."
                )


def _check_length(teacher: str, most: int, asked: int) -> None:
    if asked > most:
        raise InputError(
            f"Lengths up to the {most} positions of the teacher {teacher} were expected, but the"
            f" experiment asks for {asked}. Lower `length` under `text` or `max_length` under `task`."
        )


def check_shapes(experiment: Experiment, config: PreTrainedConfig) -> None:
    """Refuse students that no teacher of a configuration can have.

    Raises:
        InputError: for the first of them.
    """
    depth = config.num_hidden_layers
    for cell in experiment.cells():
        system = experiment.system(cell.system)
        student = system.student
        if system.merges:
            own = experiment.merging(cell.system).student.layers
        else:
            own = depth if student is None else student_depth(depth, cell.lrf)
        there = not (system.model or system.own_teacher or system.guesses)
        if (
            cell.task == RETRIEVAL
            and there
            and (asked := max(experiment.retrieval.layers or (), default=0)) > own
        ):
            raise InputError(
                f"Layers from 0 to {own} were expected under `layers` of `retrieval`, since {cell.system} has"
                f" so many, but got {asked}."
            )
        if there and (system.adaptation.part or system.learning.part in ("outer", "middle")):
            check_parts(own)
        if student is None or student.merges:
            continue
        layers = student.start if student.start != "random" else "uniform" if depth % own == 0 else "bottom"
        student_config(config, start_layers(layers, depth, cell.lrf))
        if beyond := [one for one in student.share if int(one.partition(":")[2] or 0) > own]:
            raise InputError(
                f"Layers from 1 to {own} were expected under `share` of {cell.system}, but got {beyond[0]}."
            )
        followed = system.learning.terms if system.forced else {}
        terms = [*(student.terms.values() if student.follows else ()), *followed.values()]
        for imitated in (student.layers if student.follows else None, *(term.layers for term in terms)):
            if imitated is not None:
                layer_pairs(imitated, depth, own)
        apart = [
            name for name, term in followed.items() if term.layers or term.of not in ("attention", "states")
        ]
        if cell.drf > 1 and apart:
            raise InputError(
                "Terms of attention and states, of the layers that the student imitates, were expected for"
                f" the narrower {cell.system} to follow its task's teacher by, but got {apart[0]}."
            )
        check_drf(config, cell.drf)
        if student.relates:
            experiment.minilm.check(config)


def _check_students(inputs: Inputs, teacher: Teacher) -> None:
    """Refuse students that the teacher cannot have."""
    experiment = inputs.experiment
    check_shapes(experiment, teacher.encoder.config)
    for cell in experiment.cells():
        system = inputs.system(cell)
        student = system.student
        if not teacher.has_mlm_head and not system.model and _learns_languages(experiment, system):
            raise InputError(
                f"A teacher with a masked-LM head was expected, by which {cell.system} learns languages, but"
                f" {experiment.teacher} has none. Give it one with `bistil pretrain` and `train: layers`, as"
                " in data/teachers/e5-mlm.yaml, or learn none: `language_sft: null`."
            )
        if cell.task in experiment.tuned and not system.guesses:
            sft, own = experiment.task_config(cell).sft, system.model or system.own_teacher or system.merges
            if sft.peft is not None and sft.peft.method == "ia3" and not own:
                peers.check_ia3(teacher.encoder.config)
        if student is None or student.merges:
            continue
        frozen_parts(teacher.encoder, student.frozen)
        if student.imitates_predictions and not teacher.has_mlm_head:
            raise InputError(
                f"A teacher with a masked-LM head was expected, which {cell.system} imitates or starts from,"
                f" but {experiment.teacher} has none. Give it one with `bistil pretrain` and `train: layers`,"
                " as in data/teachers/e5-mlm.yaml."
            )
        terms = [*student.terms.values(), *(system.learning.terms.values() if system.forced else ())]
        if any(term.of == "scores" for term in terms) and not can_note(type(teacher.encoder)):
            raise InputError(
                f"An architecture whose attention scores can be read was expected for {cell.system}, but"
                f" {type(teacher.encoder).__name__}'s cannot. Take a term of `attention` instead of `scores`."
            )
        if experiment.general.select == "retrieval" and student.follows:
            inputs.spare_pairs(inputs.languages(cell))
        if student.vocabulary == "trimmed" or cell.lrf > 1:
            family_of(teacher.tokenizer.backend_tokenizer)  # refuses a vocabulary that cannot be reduced


def _learns_languages(experiment: Experiment, system: System) -> bool:
    """Whether something is trained on text for a system to wear."""
    adaptation, student = system.adaptation, system.student
    wears = adaptation.worn != "nothing" and (adaptation.in_training or adaptation.in_use)
    sparse = (wears and not adaptation.hangs) or (student is not None and student.adapted and student.follows)
    return (wears and adaptation.hangs) or (sparse and experiment.language_sft is not None)
