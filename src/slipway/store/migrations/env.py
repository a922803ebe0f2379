"""What Alembic runs first: it takes the connection that `run.py` hands over."""

from alembic import context

from slipway.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
