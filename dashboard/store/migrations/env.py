"""How Alembic reaches the database: by the connection that the program gives."""

from alembic import context

from dashboard.store.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
