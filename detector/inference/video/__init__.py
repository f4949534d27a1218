"""Detecting in videos: frames read one by one, a line of JSON for each, and an annotated video at the end."""
