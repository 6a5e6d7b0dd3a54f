"""From YAML files to checked values, and where the project keeps things."""
