"""Tasks: labelled problems with head, loss, decoding, scores and picture. May import models and measure.

base               what a task is
build              from options to a task
classification     one of several classes an item
regression         one number an item
segmentation       a class for each pixel
keypoints          named points, and the lengths between them
point_losses       how far predicted coordinates are off
biometry           several sets of named points on one backbone
views              mirrored and shrunk views for test-time augmentation
certainty          what a point's confidence is worth, learned on held-out labels
ensemble           several keypoint models as one: median of points, soup of weights
teachers           what several models say of a batch: asked now, or remembered
median_distill     a student that learns from labels and from the median of teachers
scores             metrics over all items
weighted           weighted means over a batch
drawing            what the tasks draw with
"""

from insonate.tasks import biometry, classification, keypoints, median_distill, regression, segmentation
from insonate.tasks.base import TASKS, Outputs, Prediction, Task, TaskConfig
from insonate.tasks.build import build_task

__all__ = [
    "TASKS",
    "Outputs",
    "Prediction",
    "Task",
    "TaskConfig",
    "biometry",
    "build_task",
    "classification",
    "keypoints",
    "median_distill",
    "regression",
    "segmentation",
]
