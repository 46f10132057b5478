"""Lightning systems and the training loop around them."""
