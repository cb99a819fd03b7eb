"""The service: where everything is put together, its processes, and how it is told."""
