"""Comparison of predictions with what other programs and publications give."""
