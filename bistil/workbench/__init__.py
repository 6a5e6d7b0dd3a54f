"""The workbench: panels for notebooks, each a plain view-model (tested without a kernel) and a thin
ipywidgets view.

Notable: this is the only room that imports ipywidgets; the work runs in a thread, and every click goes
through one guard that shows what went wrong in the panel."""

from bistil.workbench.answers import Answers, AnswersPanel, answers, answers_panel
from bistil.workbench.choice import Choice
from bistil.workbench.comparison_view import ComparisonPanel, comparison_panel
from bistil.workbench.look import entities, history, show, typology
from bistil.workbench.model import StageStatus, Workbench
from bistil.workbench.neighbours import Neighbours, NeighboursPanel, neighbours_panel
from bistil.workbench.panels import ThresholdPanel, threshold_panel
from bistil.workbench.pictures import (
    ages_panel,
    costs_panel,
    data_panel,
    densities_panel,
    overlap_panel,
    places_panel,
)
from bistil.workbench.progress_view import NotebookProgress
from bistil.workbench.reports import ReportsPanel, reports_panel
from bistil.workbench.session import open_pipeline, read_experiment
from bistil.workbench.size_panel import SizePanel, size_panel
from bistil.workbench.training_view import Training, TrainingPanel, training_panel
from bistil.workbench.tryout import TryPanel, try_panel
from bistil.workbench.view import WorkbenchPanel, workbench_panel

__all__ = [
    "Answers",
    "AnswersPanel",
    "Choice",
    "ComparisonPanel",
    "Neighbours",
    "NeighboursPanel",
    "NotebookProgress",
    "ReportsPanel",
    "SizePanel",
    "StageStatus",
    "ThresholdPanel",
    "Training",
    "TrainingPanel",
    "TryPanel",
    "Workbench",
    "WorkbenchPanel",
    "ages_panel",
    "answers",
    "answers_panel",
    "comparison_panel",
    "costs_panel",
    "data_panel",
    "densities_panel",
    "entities",
    "history",
    "neighbours_panel",
    "open_pipeline",
    "overlap_panel",
    "places_panel",
    "read_experiment",
    "reports_panel",
    "show",
    "size_panel",
    "threshold_panel",
    "training_panel",
    "try_panel",
    "typology",
    "workbench_panel",
]
