"""miniworld: small synthetic languages with known typology and relatedness, and gold data for every task from
one set of facts.

Notable: `write_world` writes a folder in the public layout of the real data, so the rest of bistil cannot
tell the difference.
"""

from bistil.miniworld.describe import describe
from bistil.miniworld.ensure import ensure_world
from bistil.miniworld.settings import LanguageSettings, WorldSettings, load_settings, parse_settings
from bistil.miniworld.write import write_world

__all__ = [
    "LanguageSettings",
    "WorldSettings",
    "describe",
    "ensure_world",
    "load_settings",
    "parse_settings",
    "write_world",
]
