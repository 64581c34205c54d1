"""The two ways to an upstream: both prepare one request, and one exchange sends, streams, meters and journals it."""
