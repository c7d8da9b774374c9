"""Reports of a validation run: one page for people, Markdown, JSON, JUnit XML."""
