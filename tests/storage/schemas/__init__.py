"""The files of every version as SQL: what the Overseer of that version wrote, and every later one must open."""
