"""Evaluation: how good a model is, how sure that is, and a page that shows it.

| file | content |
|-|-|
| `statistics.py` | bootstrap intervals by patient, paired differences, Bland–Altman |
| `evaluation.py` | `Evaluation`: what a model scored; comparing two of them |
| `run.py` | `evaluate_model`: predictions, scores, groups, the trivial answer |
| `page.py` | the report of one evaluation |
| `report.py` | one offline HTML page from sections of text, tables and pictures |
| `charts.py` | learning curve, confusion matrix, Bland–Altman, intervals |

Imports hub, tasks and data.
"""

from insonate.evaluate.charts import bland_altman_chart, confusion, intervals_chart, learning_curves
from insonate.evaluate.evaluation import Evaluation, compare_evaluations
from insonate.evaluate.page import metrics_table
from insonate.evaluate.report import Picture, Section, Table, Text, picture, render_report
from insonate.evaluate.run import evaluate_model, predict_loop
from insonate.evaluate.statistics import (
    BlandAltman,
    Interval,
    bland_altman,
    bootstrap_mean,
    bootstrap_pooled,
    paired_difference,
)

__all__ = [
    "BlandAltman",
    "Evaluation",
    "Interval",
    "Picture",
    "Section",
    "Table",
    "Text",
    "bland_altman",
    "bland_altman_chart",
    "bootstrap_mean",
    "bootstrap_pooled",
    "compare_evaluations",
    "confusion",
    "evaluate_model",
    "intervals_chart",
    "learning_curves",
    "metrics_table",
    "paired_difference",
    "picture",
    "predict_loop",
    "render_report",
]
