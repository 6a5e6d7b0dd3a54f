"""Sparse fine-tuning: `delta` is the value, `compose` its algebra, `lottery` is LT-SFT training, `spiel` a support that moves.

`anatomy` says where a delta sits; `files` and `flat` are small helpers.
"""
