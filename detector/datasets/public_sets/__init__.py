"""Public data sets: where their authors serve them, and how they come to lie where the recipes look.

`addresses` has the checksums and sizes too, `obtain` fetches and checks, `unpack` opens archives without trusting
them.
"""
