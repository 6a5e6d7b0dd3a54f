"""The two stages of bilingual distillation (BiStil, Ansell et al. 2023): general, then task-specific."""
