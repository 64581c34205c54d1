"""The REST API: Flask under gunicorn, JSON under /api. An edge: it translates and decides nothing."""
