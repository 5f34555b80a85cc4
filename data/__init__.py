"""What ships with the program: the starter model and the demo collection; training recipes."""
