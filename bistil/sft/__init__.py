"""Sparse fine-tuning: `delta` is the value, `compose` its algebra, `lottery` is LT-SFT training, `spiel` a support that moves.

`config` names a method and `tune` trains by it; `peers` are LoRA and (IA)^3, for comparison. `anatomy` says where a delta sits; `files`
and `flat` are small helpers.
"""
