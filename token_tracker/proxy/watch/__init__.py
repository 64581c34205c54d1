"""What one worker tells of its calls while they run: figures, one line a call, and what was refused."""
