"""Kill the server under load repeatedly and check that everything acknowledged is still there."""
