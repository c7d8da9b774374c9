"""Saved scenarios with their history, in SQLite or PostgreSQL."""
