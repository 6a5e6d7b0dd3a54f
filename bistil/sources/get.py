"""A data set from the hub, or from its publisher's own files, into a data folder: files of the public
formats, and their places in the folder's languages.csv.

Notable: `datasets` does the hub's loading and caching; a file appears under its name when it is whole; what
is there already, files as well as a language's column of the folder's table, is left as it is, and told."""

import io
import socket
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.settings.files import csv_text, read_csv
from bistil.settings.places import given
from bistil.sources.table import DataSet, data_set
from bistil.sources.without import Places, shared
from bistil.sources.write import SUFFIXES, WRITERS
from bistil.store.locks import alone
from bistil.tasks import PARALLEL, column
from bistil.text.languages import DATA, OPTIONAL, REQUIRED, of_split, read_table
from bistil.text.written import aside

Load = Callable[[str, str, str | None, bool], Mapping[str, Any]]
"""From (id, configuration, revision, streamed) to the splits by name, each iterable over rows, with
`features`.
"""
Fetch = Callable[[str], Iterable[str]]
"""From an address, which is asked when the first is, to the lines of its file, each with its end."""
FOLDERS = {"text": "corpora", "parsing": "ud"}
COLUMNS = {"text": "corpus", "parallel": PARALLEL}
ENDED_BY_A_BLANK = ("conllu", "iob2")
SECONDS = 60.0


def get(
    entry: DataSet,
    folder: Path,
    codes: Sequence[str] = (),
    *,
    most: int | None = None,
    load: Load | None = None,
    fetch: Fetch | None = None,
    say: Callable[[str], None],
) -> list[Path]:
    """Write a data set's files and return them; `codes` are the languages wanted, all where there are none
    named.

    Args:
        most: at most so many rows of a split.

    Raises:
        InputError: where nobody has it, they cannot be reached, or a language is not in the entry.
    """
    _check(entry, codes)
    written = []
    for code in codes or entry.languages:
        pattern = place(entry, code)
        here = {split: folder / of_split(pattern, split) for split in entry.splits}
        kept = [split for split, path in here.items() if path.exists()]
        for path in dict.fromkeys(here[split] for split in kept):
            say(f"{path} is there already and stays; take it away to get it anew")
        if len(kept) < len(here):
            found = (
                _of_hub(entry, code, most, load or from_hub)
                if entry.files is None
                else _of_files(entry, code, most, fetch or from_web)
            )
            for split, (parts, remark) in found.items():
                if split not in kept:
                    _write(here[split], parts)
                    written.append(here[split])
                    say(f"{here[split]}{remark}")
        _name(folder, entry, code, pattern, say)
    return written


def _check(entry: DataSet, codes: Sequence[str]) -> None:
    """Refuse a data set that nobody has here, and languages that are not its own."""
    unknown = sorted(set(codes) - set(entry.languages))
    if unknown:
        raise InputError(f"{entry.name} has no {unknown[0]}; its languages: {', '.join(entry.languages)}.")
    if not entry.fetched:
        raise InputError(
            f"{entry.name} is not on the hub: take its files from {entry.homepage}, name them in"
            " FOLDER/languages.csv."
        )


def _of_hub(entry: DataSet, code: str, most: int | None, load: Load) -> dict[str, tuple[Iterable[str], str]]:
    """By our splits, what to write, not asked for yet, and a remark about it."""
    splits = _loaded(load, entry, code)
    found = {ours: theirs for ours, theirs in entry.splits.items() if theirs in splits}
    if not found:
        raise InputError(
            f"{entry.name} for {code} should have the splits {', '.join(entry.splits.values())}, but has"
            f" {', '.join(splits)}."
        )
    left_out = _left_out(load, entry, code, splits)
    contents: dict[str, tuple[Iterable[str], str]] = {}
    for split, theirs in found.items():
        gone = {i for name, i in left_out if name == theirs and split != "test"}
        contents[split] = (
            _as_files(entry, code, splits[theirs], gone, most),
            f", {len(gone):,} rows left out as `without` says" if gone else "",
        )
    return contents


def _as_files(entry: DataSet, code: str, rows: Any, gone: set[int], most: int | None) -> Iterator[str]:
    wanted = (row for i, row in enumerate(_arriving(rows, entry, code)) if i not in gone)
    yield from WRITERS[entry.format](islice(wanted, most), _classes(rows), entry.drop)


def _of_files(
    entry: DataSet, code: str, most: int | None, fetch: Fetch
) -> dict[str, tuple[Iterable[str], str]]:
    """The same, of files that are taken as they are."""
    part = entry.languages[code]
    addresses = {
        ours: str(entry.files).replace("{part}", part).replace("{split}", theirs)
        for ours, theirs in entry.splits.items()
    }
    return {
        split: (_first(_arriving(fetch(address), entry, code), entry, most), f" from {address}")
        for split, address in addresses.items()
    }


def _first(lines: Iterable[str], entry: DataSet, most: int | None) -> Iterator[str]:
    """So many sentences where a blank line ends one, else so many lines beside a header."""
    rows = 0 if entry.format != "pairs" else -1
    for line in lines:
        if rows == most:
            return
        yield line
        rows += not line.strip() if entry.format in ENDED_BY_A_BLANK else 1


def _name(folder: Path, entry: DataSet, code: str, pattern: str, say: Callable[[str], None]) -> None:
    """Say in the folder's table where a language's files are, or that it says something else."""
    if not add_to_table(folder, code, COLUMNS.get(entry.task) or column(entry.task), pattern):
        say(f"languages.csv already says where {entry.task} of {code} is; that stays, {pattern} is not in it")


def wanted(
    names: Iterable[str], codes: Sequence[str] = (), *, say: Callable[[str], None] = print
) -> Iterator[tuple[DataSet, tuple[str, ...]]]:
    """Data sets with the languages wanted of each, from names of data sets or paths of experiment files.

    Of an experiment's data sets, the source language comes from the first of a task that has it, targets from
    any; `say` is told of languages that none has, and of those that are read although they are neither.

    Raises:
        InputError: for an experiment without data sets, for `codes` that are not its languages or a set's,
            and for a set that nobody has.
    """
    for name in names:
        if not name.endswith((".yaml", ".yml")):
            entry = data_set(name)
            _check(entry, codes)
            yield entry, tuple(codes)
            continue
        experiment = Experiment.read(given(name))
        if not experiment.data_sets:
            raise InputError(
                f"{name} should name data sets under `data_sets`, but names none. Name them there, or sets"
                " themselves here: `bistil data list` has them."
            )
        asked = {experiment.source, *(code for found in experiment.targets.values() for code in found)}
        if strangers := [code for code in codes if code not in asked]:
            raise InputError(
                f"Languages of {name} were expected, {', '.join(sorted(asked))}, but got {strangers[0]!r}."
            )
        for task, listed in experiment.data_sets.items():
            targets = dict.fromkeys(
                code for one, found in experiment.targets.items() if task in (one, "text") for code in found
            )
            lacking = [code for code in (experiment.source, *targets) if not codes or code in codes]
            for entry in map(data_set, listed):
                here = tuple(code for code in lacking if code in entry.languages)
                lacking = [code for code in lacking if code not in here]
                if here:
                    _check(entry, here)
                    yield entry, here
            if lacking:
                say(
                    f"{' and '.join(listed)} under `data_sets` has no {task} of {', '.join(lacking)}: add a"
                    " set that has, or name files of your own in languages.csv"
                )
        if not codes and (others := [code for code in _others(experiment) if code not in asked]):
            say(
                f"{name} also reads languages that are no targets, which do not come with it: get them by the"
                f" names of data sets, with --languages {','.join(others)}"
            )


def _others(experiment: Experiment) -> list[str]:
    """The codes of languages whose text or examples the experiment's systems name beside its targets."""
    systems = [experiment.system(name) for name, _, _ in experiment.parsed]
    learnt = {rows.language for one in systems for rows in (*one.learning.rows, *one.further)}
    seen = any(one.student and one.student.languages == "seen" for one in systems)
    generator = experiment.generator.languages if experiment.generator else ()
    found = (*generator, *experiment.typology_among, *chain(*experiment.groups))
    found += (*(experiment.seen if seen else ()), *sorted(learnt - {"source", "target", "targets"}))
    return list(dict.fromkeys(found))


def place(entry: DataSet, code: str) -> str:
    """Where a language's files go, below the data folder; {split} becomes train, dev or test."""
    suffix = SUFFIXES[entry.format] if entry.files is None else entry.files.rpartition(".")[2]
    if entry.task == "text":
        return f"corpora/{code}.{suffix}"
    if entry.task == "parallel":
        return f"parallel/{entry.name}/{code}.{suffix}"
    return f"{FOLDERS.get(entry.task, entry.task)}/{entry.name}/{code}-{{split}}.{suffix}"


def from_hub(name: str, part: str, revision: str | None, streamed: bool) -> Mapping[str, Any]:
    """The splits of a part of a data set, from the local cache where they are there; streamed, rows come as
    they are asked for.
    """
    try:
        import datasets
        from huggingface_hub import constants
    except ImportError as error:
        raise InputError(
            "The package `datasets` is needed for the hub: pip install -e '.[batch]'."
        ) from error
    if not _reachable():  # else each request is tried again and again for half a minute
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    found: Mapping[str, Any] = datasets.load_dataset(name, part, revision=revision, streaming=streamed)
    return found


def from_web(address: str) -> Iterator[str]:
    """The lines of a public file, each with its end. It is read at one go, since only then a file that is cut
    short on its way is an error.
    """
    if not address.startswith("https://"):
        raise InputError(
            f"An address that starts with https:// was expected, not {address}: correct the table."
        )
    with urllib.request.urlopen(address, timeout=SECONDS) as answer:
        text = answer.read().decode("utf-8-sig")
    yield from io.StringIO(text, newline="\n")


def add_to_table(folder: Path, code: str, column: str, pattern: str) -> bool:
    """Say in the folder's languages.csv where a language's files are; False, and nothing changed, where it
    says something else already. One process at a time.
    """
    with alone(folder / ".languages.csv.lock", lambda who, seconds: None):
        return _add_to_table(folder / "languages.csv", code, column, pattern)


def _add_to_table(path: Path, code: str, column: str, pattern: str) -> bool:
    columns: tuple[str, ...] = (*REQUIRED, *OPTIONAL)
    rows: dict[str, dict[str, str]] = {}
    if path.is_file():
        read_table(path)  # refuses what would be lost
        header, found = read_csv(path)
        columns = tuple(dict.fromkeys((*columns, *header)))
        rows = {row["code"]: row for _, row in found}
    if rows.get(code, {}).get(column) not in (None, "", pattern):
        return False
    row = rows.setdefault(code, _known(code))
    row[column] = pattern
    cells = [columns, *([one.get(name) or "" for name in columns] for one in rows.values())]
    _write(path, [csv_text(cells, formulas=True)])
    return True


def _known(code: str) -> dict[str, str]:
    """What the project's table says of a language, its files left out."""
    known = read_table(DATA / "languages.csv").get(code)
    name, family = (known.name, known.family) if known else (code, "")
    seen = "yes" if known and known.seen else "no"
    return {"code": code, "name": name, "family": family, "seen": seen, "corpus": f"corpora/{code}.txt"}


def _loaded(load: Load, entry: DataSet, code: str) -> Mapping[str, Any]:
    """The splits of a language; whatever goes wrong over there is one line here."""
    try:
        return load(str(entry.hub), entry.languages[code], entry.revision, entry.task == "text")
    except InputError:
        raise
    except Exception as error:
        raise _lost(entry, code, "nothing", error) from error


def _arriving(rows: Iterable[Any], entry: DataSet, code: str) -> Iterator[Any]:
    """Rows as they are asked for, which may be from over there."""
    found = iter(rows)
    for number in count():
        try:
            row = next(found)
        except StopIteration:
            return
        except InputError:
            raise
        except Exception as error:
            what = (
                f"{number:,} {'rows' if entry.files is None else 'lines'} and no more"
                if number
                else "nothing"
            )
            raise _lost(entry, code, what, error) from error
        yield row


def _lost(entry: DataSet, code: str, what: str, error: Exception) -> InputError:
    place = f"the hub ({entry.hub})" if entry.files is None else str(entry.files).split("{")[0]
    return InputError(
        f"{entry.name} ({code}) comes from {place}, which gave {what}: {_first_line(error)}. Go online and"
        f" run this again, or take its files from {entry.homepage} and name them in FOLDER/languages.csv."
    )


def _left_out(load: Load, entry: DataSet, code: str, splits: Mapping[str, Any]) -> Places:
    """The rows, by the hub's split and number, whose text is in the other data set of `without`."""
    if entry.without is None:
        return set()
    other = data_set(entry.without.set)
    if other.hub is None or code not in other.languages:
        raise InputError(
            f"{entry.name} is without the texts of {other.name}, which should be on the hub with a part for"
            f" {code}: correct data/datasets.yaml."
        )
    tested = {name: _arriving(rows, other, code) for name, rows in _loaded(load, other, code).items()}
    names = [other.splits.get(split, split) for split in entry.without.splits]
    if lacking := [name for name in names if name not in tested]:
        raise InputError(
            f"{entry.name} is without the texts of {other.name}, which for {code} should have a split"
            f" {lacking[0]}, but has {', '.join(tested)}."
        )
    texts = chain.from_iterable(tested[name] for name in names)
    return shared(splits, texts, nearest=entry.without.nearest)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}, {lines[0].rstrip('.')[:200]}"


def _classes(rows: Any) -> dict[str, Sequence[str]]:
    """The names of the classes of every column that has classes, alone or in lists."""
    features = getattr(rows, "features", None) or {}
    inner = {name: getattr(kind, "feature", kind) for name, kind in features.items()}
    return {name: kind.names for name, kind in inner.items() if hasattr(kind, "names")}


def _write(path: Path, parts: Iterable[str]) -> None:
    path = path.resolve()  # what a link stands for, not the link, is written anew
    with aside(path) as made:
        with (made / path.name).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
        (made / path.name).replace(path)


def _reachable() -> bool:
    """Whether the hub's name can be looked up, or a proxy does that."""
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo("huggingface.co", 443)
    except OSError:
        return False
    return True
