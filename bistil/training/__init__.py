"""The one training path, masked-language modelling, and what is told of a run."""
