"""Spoilt files: every reader either reads them or says in an InputError what is wrong; no other error, no
hang.

`pytest tests/fuzz --fuzz-cases 100000` is the long run; a case that fails is named by its number.
"""

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from readers import Reader, readers, spoil

from bistil.errors import InputError

LONGEST_SECONDS = 5
NAMES = [
    *(
        "conllu",
        "pos",
        "ner",
        "iob2",
        "nli",
        "nli-jsonl",
        "squad",
        "parallel",
        "corpus",
        "aligned",
        "languages",
    ),
    *(
        "folder",
        "experiment",
        "pretrain",
        "config",
        "results",
        "manifest",
        "asked",
        "outcomes",
        "delta-header",
    ),
    *("classification", "classification-csv", "choice", "translator"),
    *("delta", "artefact", "typology", "generator", "generator-header"),
    *(f"student-{part}" for part in ("config", "labels", "head", "weights", "tokenizer")),
]


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return readers(tmp_path_factory.mktemp("sound"))


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError inside the block when it takes longer (where the system has alarms)."""

    def ring(*arguments: object) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_every_reader_is_fuzzed_and_reads_its_sound_file(every: dict[str, Reader], tmp_path: Path) -> None:
    assert set(every) == set(NAMES)
    for reader in every.values():
        path = tmp_path / reader.name
        reader.write(path, reader.sound)
        reader.read(path)


@pytest.mark.parametrize("name", NAMES)
def test_spoilt_files_are_read_or_refused_in_words(
    name: str, every: dict[str, Reader], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    reader, path = every[name], tmp_path / every[name].name
    refused = longest = 0
    for case in range(0, request.config.getoption("--fuzz-cases"), reader.cost):
        spoilt = spoil(reader.sound, random.Random(f"{name} {case}"))
        reader.write(path, spoilt)
        try:
            with at_most(LONGEST_SECONDS):
                reader.read(path)
        except InputError as error:
            refused += 1
            longest = max(longest, len(str(error)))
        except BaseException as error:
            error.add_note(f"case {case} of {name}: {spoilt[:2000]!r}")
            raise
    assert refused > 0
    assert longest < 5000
