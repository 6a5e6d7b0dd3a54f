"""The one exception for bad input.

Notable: its message is a paragraph for a person (what was expected, what came, what to do), and it is raised
before any long work."""

LONGEST = 3000


class InputError(ValueError):
    """Input that bistil cannot use: says what was expected, what came, and what to do. What came may be
    endless, the message is not.

    at: the keys and positions under which the value at fault stands in the settings that were given.
    """

    def __init__(self, message: str, *, at: tuple[str | int, ...] = ()) -> None:
        self.at = at
        half = LONGEST // 2
        super().__init__(message if len(message) <= LONGEST else f"{message[:half]} … {message[-half:]}")
