"""Published weights: fetched once, verified at every use."""
