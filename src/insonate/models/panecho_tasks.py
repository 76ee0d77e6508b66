"""PanEcho's tasks: what its heads mean, and each head as the head of a task of ours.

Facts are those of the authors' table of tasks (CarDS-Yale/PanEcho, content/tasks.md): a head of one output
with two classes gives the logit of the second, in the order below. Page: docs/models/panecho.md.
Shapes: B items, O outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from insonate.models.backbone import Tokens

_SIZE = ("Mildly Increased", "Moderately|Severely Increased", "Normal")
_LEAK = ("Mild", "Moderate|Severe", "None|Trace")
_TWO = ("0.0", "1.0")
CLASSES: dict[str, tuple[str, ...]] = {
    "pericardial-effusion": ("mild_mod_severe", "none_trace"), "LVSize": _SIZE, "RVSize": _SIZE,
    "LVWallThickness-increased-any": ("Increased", "Normal"),
    "LVWallThickness-increased-modsev": ("Moderately|severely increased", "Normal or mildly increased"),
    "LVSystolicFunction": ("Mildly Decreased", "Moderately|Severely Decreased", "Normal|Hyperdynamic"),
    "LVWallMotionAbnormalities": ("None", "Present"),
    "LVDiastolicFunction": ("Mild|Indeterminate", "Moderate|Severe", "Normal"),
    "RVSystolicFunction": ("Decreased", "Normal"),
    "LASize": ("Mildly Dilated", "Moderately|Severely Dilated", "Normal"), "RASize": ("Dilated", "Normal"),
    "AVStructure": ("Bicuspid", "Normal"), "AVStenosis": ("Mild|Moderate", "None", "Severe"),
    "AVRegurg": _LEAK, "MVRegurgitation": _LEAK, "TVRegurgitation": _LEAK,
    "MVStenosis": ("Mild|Moderate|Severe", "None"), "LVOT20mmHg": _TWO, "RAP-8-or-higher": _TWO,
}  # fmt: skip
"""head → its classes"""
COLUMNS = {
    "EF": "ef_percent", "GLS": "gls_percent", "LVEDV": "lvedv_ml", "LVESV": "lvesv_ml", "LVSV": "sv_ml",
    "IVSd": "ivsd_cm", "LVPWd": "lvpwd_cm", "LVIDs": "lvids_cm", "LVIDd": "lvidd_cm", "LVOTDiam": "lvot_cm",
    "E|EAvg": "e_over_e_prime_ratio", "RVSP": "rvsp_mmhg", "RVIDd": "rvidd_cm", "TAPSE": "tapse_cm",
    "RVSVel": "rv_s_prime_cm_per_s", "LAIDs2D": "laids_cm", "LAVol": "la_ml", "RADimensionM-L(cm)": "ra_cm",
    "AVPkVel(m|s)": "av_peak_m_per_s", "TVPkGrad": "tv_peak_mmhg", "AORoot": "aortic_root_cm",
}  # fmt: skip
"""head → name of its value, with the unit"""
NEGATIVE = frozenset({"GLS"})
"""heads that give minus the value"""


class PanEchoHead(nn.Module):
    """One head as the head of a task: logits of its classes, or its value in its unit."""

    def __init__(self, name: str, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        outputs = len(head.get_parameter("bias"))
        self.binary = outputs == 1 and len(CLASSES.get(name, ())) == 2
        self.sign = -1.0 if name in NEGATIVE else 1.0

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → B O; of two classes the first has the logit 0."""
        found = self.head(tokens.patch.mean(dim=1))  # B O
        return torch.cat([torch.zeros_like(found), found], dim=-1) if self.binary else self.sign * found


def task_options(name: str, outputs: int) -> dict[str, Any]:
    """Registry name and options of the task of a head: a classification, or the regression of one value."""
    classes = CLASSES.get(name, ())
    if len(classes) != (2 if outputs == 1 else outputs):
        classes = tuple(str(number) for number in range(outputs)) if outputs > 1 else ()
    if classes:
        return {"name": "classification", "column": name, "classes": list(classes)}
    return {"name": "regression", "column": COLUMNS.get(name, name)}
