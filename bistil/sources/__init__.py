"""Where data comes from: a table of data sets, fetching them into a data folder, and checking such a folder.

Notable: whatever is fetched becomes plain files of the public formats; everything after that works offline
from folders.
"""
