"""Keep a server busy for minutes and check that its memory, descriptors, threads and greenlets stay flat."""
