"""Name maps: which tensor of another program's file is which variable, by the parts a detector is made of."""
