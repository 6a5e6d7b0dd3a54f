"""Sparse fine-tuning: `delta` is the value, `compose` its algebra, `lottery` is LT-SFT training, `spiel` a
support that moves.

`config` names a method and `tune` trains by it; `peers` are LoRA and (IA)^3, for comparison. `quantised` puts
SpIEL on a 4-bit base, `published` reads others' files, `anatomy` says where a delta sits. `sampled` computes
a support's gradient alone, `top_k` chooses one; `files` and `flat` are small helpers."""
