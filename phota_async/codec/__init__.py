"""JSON and base64 in pieces: bytes in, values out; neither a socket nor a file is known here."""
