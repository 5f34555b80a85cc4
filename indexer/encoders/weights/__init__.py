"""Where weights come from (package, hub, directory), and that they are what they should be."""
