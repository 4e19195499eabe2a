"""Stable Diffusion as a pair of daemons over RabbitMQ. Nothing is imported or done here."""

__version__ = "0.1.0"
