"""Starts the processes, restarts what dies, stops all together; imports little, so that it is small and quick."""
