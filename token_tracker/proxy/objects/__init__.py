"""What providers keep under an id (responses, files, batches): who owns it, and where it lies."""
