"""Public data sets: where their authors serve them, and how they come to lie where the recipes look.

`catalogue` holds addresses, checksums and sizes, `obtain` fetches and checks, `unpack` opens archives without trusting
them.
"""
