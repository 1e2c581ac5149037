"""SQL dumps of files as each published schema version wrote them. Every later version must open them."""
