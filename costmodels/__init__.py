"""Closed forms: descriptions, presets, schedules and every formula; numbers and columns alike."""
