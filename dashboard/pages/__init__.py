"""The pages of the dashboard: each turns answers into what a browser shows."""
