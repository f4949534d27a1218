"""Other frameworks' weights and settings, converted at the border."""
