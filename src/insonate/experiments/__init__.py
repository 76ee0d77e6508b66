"""Whole experiments, end to end.

`demo` on the phantom, with `pretraining`, the comparison that it makes · `real_data` the same on real sets ·
`sonichu` the claims of a card, with `biometry_arms` and `sonichu_page` · `shipped_data`, `shipped_model`,
`shipped_pack` the model of the package: what it learns from, how it does on real pictures, its folder ·
`told` how those end that are run by `python -m`.
"""
