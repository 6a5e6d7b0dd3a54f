"""Models as ONNX graphs: export, int8, and running them in ONNX Runtime. Needs the extra `onnx`.

Notable: a graph takes any batch and any length, padding included. int8 is dynamic: weights are rounded once,
each output channel of a matrix by its own scale and to seven bits, and activations as they come, so there is
nothing to calibrate. With the eighth bit, processors without VNNI instructions (AVX2, early AVX-512) add
pairs of products in 16 bits, which can overflow there; a file should mean the same everywhere, and the bit is
worth little: states of miniworld students are 1.5 % off in place of 1.4 %, and 2.1 % in place of 2.0 %."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bistil.errors import InputError

Inputs = Mapping[str, Tensor]
Graph = Callable[[Inputs], tuple[Tensor, ...]]
"""From named inputs of Shape: [B, L] to outputs."""
GRAPHS = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx"}
"""Form -> the graph's file."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def missing() -> str:
    """What has to be installed before anything here works, in words; "" where everything is there."""
    lacking = [name for name in PACKAGES if find_spec(name) is None]
    return f"ONNX Runtime needs {', '.join(lacking)}: pip install -e '.[onnx]'" if lacking else ""


class _Named(nn.Module):
    """A model of transformers as a function of its inputs in order; the outputs are its tensors in order."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Shape: [B, L] each."""
        out = self.model(**dict(zip(self.names, inputs, strict=True)))
        return tuple(out.to_tuple())


def to_onnx(path: Path, model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Write a model of transformers as a graph of these inputs, which are an example: at least 2 rows and 2
    columns, all of one shape.

    Raises:
        InputError: where the extra is missing.
    """
    if missing():
        raise InputError(f"{missing()}.")
    any_shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _in_peace(), torch.no_grad():
        torch.onnx.export(
            _Named(model, tuple(inputs)).eval(),
            tuple(inputs.values()),
            str(path),
            dynamo=True,
            dynamic_shapes=((any_shape,) * len(inputs),),
            input_names=list(inputs),
            external_data=False,
            verbose=False,
        )
    _forget_origins(path)


def _forget_origins(path: Path) -> None:
    """Take out what the exporter notes of each node: the code it came from, with paths of this machine.

    It is no part of the graph, and a quarter of a small student's file.
    """
    import onnx

    model = onnx.load(str(path))
    for node in [*model.graph.node, *(one for function in model.functions for one in function.node)]:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.save(model, str(path))


def to_int8(whole: Path, small: Path) -> None:
    """Write the graph `whole` again with its matrices in int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(whole))
    # the quantiser turns some matrices over, and would stumble over the shapes noted of them
    del model.graph.value_info[:]
    with _in_peace():
        quantize_dynamic(model, small, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def in_place(folder: Path, form: str, model: nn.Module, inputs: Inputs) -> None:
    """Replace the weights in a folder by a graph of the model in one of GRAPHS; `inputs` as of `to_onnx`."""
    whole = folder / GRAPHS["onnx"]
    to_onnx(whole, model, inputs)
    if form == "onnx-int8":
        to_int8(whole, folder / GRAPHS[form])
        whole.unlink()
    (folder / "model.safetensors").unlink()


def graph_in(folder: Path) -> Path | None:
    """The graph that a folder holds, None where it has weights of PyTorch."""
    return next((folder / name for name in GRAPHS.values() if (folder / name).is_file()), None)


def open_graph(path: Path) -> Graph:
    """The graph of a file, ready to run on the CPU with as many threads as torch; inputs that it does not
    know are left out.

    Raises:
        InputError: where the extra is missing, or the file is no graph.
    """
    if missing():
        raise InputError(f"{missing()}.")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    try:
        session: Any = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no class in common
        raise InputError(
            f"An ONNX graph was expected in {path}, but it cannot be read as one ({error!s:.500}). Copy or"
            " export the student again."
        ) from error
    names = [one.name for one in session.get_inputs()]

    def run(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, session.run(None, {name: inputs[name].numpy() for name in names})))

    return run


@contextmanager
def _in_peace() -> Iterator[None]:
    """Without the exporters' warnings and advice."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
