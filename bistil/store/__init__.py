"""Artefacts named by what they are made from, and the circumstances of their making."""
