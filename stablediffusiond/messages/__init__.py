"""What is said on the queues: ``request`` (to the daemon) and ``replies`` (from it)."""
