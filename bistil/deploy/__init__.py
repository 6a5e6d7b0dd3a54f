"""A finished student taken away: written, read back, described, asked."""
