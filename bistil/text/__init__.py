"""Languages, their unlabelled text, and the order in which it is read."""
