"""Evaluation: how good a model is, how sure that is, and a page that shows it.

| file | content |
|-|-|
| `agreement.py` | measurements: bias, limits of agreement, ICC |
| `points.py` | points: errors, success rates, what their confidence is worth |
| `sets.py` | a model of several tasks: all together |
| `statistics.py` | bootstrap intervals by patient, paired differences, Bland–Altman |
| `evaluation.py` | `Evaluation`: what a model scored; comparing two of them |
| `run.py` | `evaluate_model`: predictions, scores, groups, the trivial answer |
| `page.py` | the report of one evaluation |
| `report.py` | one offline HTML page from sections of text, tables and pictures |
| `charts.py` | learning curve, confusion matrix, Bland–Altman, intervals |

Imports hub, tasks and data.
"""

from insonate.evaluate.agreement import Agreement, agreements, icc
from insonate.evaluate.charts import (
    bland_altman_chart,
    confusion,
    intervals_chart,
    learning_curves,
    success_chart,
)
from insonate.evaluate.evaluation import Evaluation, compare_evaluations
from insonate.evaluate.page import metrics_table
from insonate.evaluate.points import PointErrors, Reliability, point_errors, reliability
from insonate.evaluate.report import Picture, Section, Table, Text, picture, render_report
from insonate.evaluate.run import evaluate_model, predict_loop
from insonate.evaluate.sets import OverTasks, over_tasks
from insonate.evaluate.statistics import (
    BlandAltman,
    Interval,
    bland_altman,
    bootstrap_mean,
    bootstrap_pooled,
    paired_difference,
)

__all__ = [
    "Agreement",
    "BlandAltman",
    "Evaluation",
    "Interval",
    "OverTasks",
    "Picture",
    "PointErrors",
    "Reliability",
    "Section",
    "Table",
    "Text",
    "agreements",
    "bland_altman",
    "bland_altman_chart",
    "bootstrap_mean",
    "bootstrap_pooled",
    "compare_evaluations",
    "confusion",
    "evaluate_model",
    "icc",
    "intervals_chart",
    "learning_curves",
    "metrics_table",
    "over_tasks",
    "paired_difference",
    "picture",
    "point_errors",
    "predict_loop",
    "reliability",
    "render_report",
    "success_chart",
]
