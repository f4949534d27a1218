"""Small networks trained on crops of the embedded set: what tools/degradation.py and tools/shrinkage.py are made of."""
