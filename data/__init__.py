"""What ships with the program: the starter model and the demo collection; recipes that rebuild both."""
