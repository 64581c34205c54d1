"""SQLAlchemy models, queries, migrations and the only commit."""
