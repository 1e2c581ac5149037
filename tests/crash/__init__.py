"""Kills the real server under load, again and again, and looks whether all that was acknowledged is there."""
