"""Keeps the real server busy for minutes, and looks whether it grows."""
