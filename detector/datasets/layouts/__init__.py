"""What lies in a folder of annotated pictures: its format, its splits, and where their files are."""
