"""Use cases shared by API, dashboard, recorder and worker: one verb each, session passed in."""
