"""Teachers and encoders of every family: loading them, where their parts are, their attention."""
