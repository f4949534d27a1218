"""A recipe fitted to a set of pictures: every number chosen by a rule, and said with its reason."""
