"""The one exception for bad input.

Notable: its message is a paragraph for a person (what was expected, what came, what to do), and it is raised before any long work.
"""


class InputError(ValueError):
    """Input that bistil cannot use: says what was expected, what came, and what to do."""
