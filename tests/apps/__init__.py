"""Small web backends, complete and on real servers: `test_apps_*.py` drive them, README.md shows parts."""
