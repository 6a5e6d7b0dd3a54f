"""Sparse fine-tuning: `delta` is the value, `lottery` is LT-SFT training, `files` and `flat` are their small helpers."""
