"""Whole experiments, end to end: `demo` on the phantom, `pretraining` the comparison that it makes."""
