"""The clients that are compared: each module opens one and gives a callable, from a photo's path to its images.

One module each, so that a driver's process imports nothing of the other client.
"""
