"""What Alembic runs: the revisions, on the connection and in the transaction that `migrations.upgrade` holds."""

from alembic import context

from token_tracker.database.models import Base

connection = context.config.attributes["connection"]
# The caller's transaction is used and never committed here, on SQLite too, where DDL is transactional as well.
context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
context.run_migrations()
