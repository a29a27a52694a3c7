"""Programs that run in another Python, with another framework and without tfdet. Nothing here is imported.

They have a folder of their own because Python finds the neighbours of a program first: `torchvision.py` is a name map.
"""
