"""Where a model is wrong: the numbers, and one HTML file with all of them that opens without a network."""
