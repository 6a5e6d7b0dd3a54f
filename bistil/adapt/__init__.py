"""What an encoder wears for a language or a task."""
