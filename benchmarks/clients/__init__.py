"""The clients that are compared: each module opens one and gives what has photos enhanced.

One module each, so that a driver's process imports nothing of another client.
"""
