"""What training images go through before they are resized: crops, turns, colour, mosaic, copy-paste."""
