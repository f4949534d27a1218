"""Measuring the detector beside one built from torchvision's public parts."""
