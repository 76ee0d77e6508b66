"""Model folders: what a trained model is on disk and on the hub.

| file | content |
|-|-|
| `model.py` | `Model`, `load`: build, predict, embed, save, push |
| `ensemble.py` | several models as one |
| `frames.py` | media of every form, frame by frame |
| `remote.py` | hub ids: find, push, one clear error |
| `config.py` | `config.json`, checked |
| `card.py` | the model card, README.md |
| `plain.py` | JSON without NaN |
| `part_tasks.py` | tasks that an encoder's parts hold: keypoint heads, probes |
| `official.py` | official checkpoints, in and out |

Imports tasks, models, weights and data; the only package that imports huggingface_hub.
"""

from insonate.hub.card import model_card, synthetic
from insonate.hub.config import ModelConfig
from insonate.hub.ensemble import ensemble, soup_of
from insonate.hub.model import Model, load
from insonate.hub.official import write_official
from insonate.hub.plain import to_json

__all__ = [
    "Model", "ModelConfig", "ensemble", "load", "model_card", "soup_of", "synthetic", "to_json",
    "write_official",
]  # fmt: skip
