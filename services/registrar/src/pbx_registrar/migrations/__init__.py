"""The registrar's schema, step by step (Alembic), and how it is brought up to date at start."""
