"""Scores, result rows, costs, and the significance of differences."""
