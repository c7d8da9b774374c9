"""Pipeline schedules as pure orders, and their closed forms."""
