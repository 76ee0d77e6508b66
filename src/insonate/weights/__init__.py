"""Weights: files of tensors, read without trusting them, and put into modules without guessing.

May import errors and files only.

read    a file's tensors, after every check that can be made before
audit   into a module, or an error that names what does not fit
"""

from insonate.weights.audit import Report, load_into
from insonate.weights.read import read

__all__ = ["Report", "load_into", "read"]
