"""Several nodes behind nginx, with a real bucket: what is acknowledged survives the loss of any machine."""
