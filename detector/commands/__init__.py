"""The commands of `faster-rcnn`, one a file: `add_arguments` declares its words, `run` does the work.

A command's file imports nothing heavy at its top: what takes seconds to import (torch above all) is imported inside the
functions that work with it, so that help and mistakes in the words answer at once. EXAMPLES is shown below the help;
`{program}` in it stands for the name by which the command was called, `{launched}` for what torchrun is to be given.
"""
