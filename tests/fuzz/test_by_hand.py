"""Files made to break a reader, beyond what chance finds: endless values, deep nesting, numbers too long,
shapes that are none.
"""

import json
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from readers import Reader, readers
from tiny import entries

from bistil.errors import InputError

DOUBLING = "".join(
    f"- &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" if i else "- &a0 [1, 1]\n" for i in range(25)
)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return readers(tmp_path_factory.mktemp("sound"))


def refused(reader: Reader, content: bytes, folder: Path) -> str:
    path = folder / reader.name
    reader.write(path, content)
    with pytest.raises(InputError) as error:
        reader.read(path)
    assert len(str(error.value)) < 5000
    return str(error.value)


@pytest.mark.parametrize(
    "key", ["name", "seeds", "systems", "targets", "text", "task", "general", "data_sets"]
)
def test_aliases_that_double_twenty_times_are_no_hang(
    key: str, every: dict[str, Reader], tmp_path: Path
) -> None:
    rest = {name: value for name, value in entries(tmp_path).items() if name != key}
    refused(every["experiment"], (yaml.safe_dump(rest) + f"{key}:\n{DOUBLING}").encode(), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "targets: &t {parsing: *t}",
        "systems: [bistil-tf:²]",
        "systems: [bistil-tf:0]",
        "seeds: [!!int x]",
        "seeds: [2001-99-99]",
    ],
)
def test_yaml_that_its_loader_or_python_trips_over(
    text: str, every: dict[str, Reader], tmp_path: Path
) -> None:
    rest = {name: value for name, value in entries(tmp_path).items() if name != text.split(":")[0]}
    refused(every["experiment"], (yaml.safe_dump(rest) + text).encode(), tmp_path)


@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_a_learning_rate_is_a_number(rate: float, every: dict[str, Reader], tmp_path: Path) -> None:
    changed = entries(tmp_path)
    changed["general"] = {**changed["general"], "schedule": {"steps": 1, "learning_rate": rate}}
    assert "learning_rate should be above 0" in refused(
        every["experiment"], yaml.safe_dump(changed).encode(), tmp_path
    )


@pytest.mark.parametrize("name", ["nli-jsonl", "choice", "squad", "delta-header"])
@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 100_000, b"9" * 5000])
def test_json_too_deep_or_too_long_is_refused(
    name: str, content: bytes, every: dict[str, Reader], tmp_path: Path
) -> None:
    refused(every[name], content, tmp_path)


@pytest.mark.parametrize("shape", [3, None, ["a"], [[1]], [-2, 3], [2.5, 3], [10**30, 3]])
def test_shapes_that_are_none(shape: Any, every: dict[str, Reader], tmp_path: Path) -> None:
    header = json.loads(every["delta-header"].sound)
    refused(
        every["delta-header"], json.dumps({**header, "shapes": {"layer.weight": shape}}).encode(), tmp_path
    )


LONG = b"a" * 50_000_000
LINES = {
    "corpus": LONG,
    "parallel": b"x\t" + LONG,
    "ner": LONG + b" O\n",
    "iob2": b"1\t" + LONG + b"\tO\n",
    "conllu": b"1\t" + LONG + b"\t_\tX\t_\t_\t0\troot\t_\t_\n",
    "pos": b"1\tx\t" + LONG + b"\tX\t_\t_\t0\troot\t_\t_\n",
    "nli": b"neutral\t" + LONG + b"\tb\n",
    "nli-jsonl": b'{"premise": "' + LONG + b'", "hypothesis": "b", "label": "neutral"}\n',
    "squad": b'{"data": "' + LONG + b'"}',
    "languages": LONG + b",code\n",
    "results": LONG,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_a_line_of_fifty_megabytes_takes_a_few_times_its_memory(
    name: str, every: dict[str, Reader], tmp_path: Path
) -> None:
    path = tmp_path / every[name].name
    every[name].write(path, LINES[name])
    started = time.process_time()
    tracemalloc.start()
    with suppress(InputError):
        every[name].read(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * len(LINES[name])
    assert time.process_time() - started < 30


def test_numbers_and_cells_beyond_all_bounds(every: dict[str, Reader], tmp_path: Path) -> None:
    line = "\t".join(["1", "a", "_", "X", "_", "_", "9" * 5000, "root", "_", "_"])
    assert "line 1" in refused(every["conllu"], line.encode(), tmp_path)
    refused(every["languages"], b'"' + b"a" * 200_000, tmp_path)
