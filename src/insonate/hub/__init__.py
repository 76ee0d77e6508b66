"""Model folders: what a trained model is on disk and on the hub.

| file | content |
|-|-|
| `model.py` | `Model`, `load`: build, predict, embed, save, push |
| `ensemble.py` | several models as one |
| `view_head.py` | a classifier of views beside a model's tasks |
| `frames.py` | media of every form, frame by frame |
| `remote.py` | folders, shipped models, hub ids: find, push, one clear error |
| `config.py` | `config.json`, checked |
| `card.py` | the model card, README.md |
| `plain.py` | JSON without NaN |
| `calibration.py` | what confidences are worth, in a folder of the card |
| `part_tasks.py` | tasks that an encoder's parts hold: PanEcho's heads, probes |
| `official.py` | official checkpoints, in and out |
| `sonichu.py` | the folder of SONICHU's card, in and out, and its two classes |

Imports tasks, models, weights and data; the only package that imports huggingface_hub.
"""

from insonate.hub.card import model_card, synthetic
from insonate.hub.config import ModelConfig
from insonate.hub.ensemble import ensemble, soup_of
from insonate.hub.model import Model, load
from insonate.hub.official import write_official
from insonate.hub.plain import to_json
from insonate.hub.sonichu import SonichuModel, SonichuPreprocessor, write_card_folder

__all__ = [
    "Model", "ModelConfig", "SonichuModel", "SonichuPreprocessor", "ensemble", "load", "model_card",
    "soup_of", "synthetic", "to_json", "write_card_folder", "write_official",
]  # fmt: skip
