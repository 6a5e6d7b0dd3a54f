"""What sentence-transformers keeps beside a model: how its states become a vector.

Notable: none of it knows tokens, so a cut model takes it along as it is. Only settings and safetensors are
copied: no code, no pickle, and nothing that a link brings in from elsewhere.
"""

import re
from pathlib import Path

from huggingface_hub import snapshot_download

MODULES = "modules.json"
FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
"""Files of the package in a model's folder."""
OF_MODULES = ("config.json", "model.safetensors")
"""Those of a module, such as 1_Pooling, in a folder of its own."""
MODULE = re.compile(r"[0-9]+_[A-Za-z]+")


def files_beside(source: str) -> tuple[dict[str, Path], list[str]]:
    """The files to take along, by their names in the folder or repository of a model, and the names of those
    of its modules that have to stay; none of either where it is no model of the package.
    """
    if Path(source).is_dir():
        folder = inside = Path(source)
    else:
        wanted = [*FILES, *(f"[0-9]*_*/{name}" for name in OF_MODULES)]
        folder = Path(snapshot_download(source, allow_patterns=wanted))
        inside = folder.parents[1]  # a snapshot's files are links to others of its repository
    if not (folder / MODULES).is_file():
        return {}, []
    modules = [path for path in folder.iterdir() if MODULE.fullmatch(path.name) and path.is_dir()]
    found = [folder / name for name in FILES if (folder / name).exists()]
    found += sorted(path for module in modules for path in module.iterdir())
    known = {
        path
        for path in found
        if path.is_file()
        and path.resolve().is_relative_to(inside.resolve())
        and path.name in (*FILES, *OF_MODULES)
    }
    named = {path.relative_to(folder).as_posix(): path for path in found}
    return (
        {name: path for name, path in named.items() if path in known},
        [name for name, path in named.items() if path not in known],
    )
