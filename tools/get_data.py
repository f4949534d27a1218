#!/usr/bin/env python
"""The command `faster-rcnn get-data`; --help shows its words."""

from detector.commands.main import tool

if __name__ == "__main__":
    tool("get-data")
