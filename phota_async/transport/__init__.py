"""The door to the network: a POST for each attempt, downloads of signed links, and the border for foreign errors."""
