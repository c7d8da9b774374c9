"""Closed forms of attention layouts, one module each."""
