"""bistil: bilingual distillation and sparse fine-tuning of massively multilingual Transformers.

Import the room you need (`from bistil.sft.delta import SparseDelta`); this file stays empty so that `import
bistil` is instant."""

__version__ = "0.1.0"
