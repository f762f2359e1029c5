"""Measurements. Each module runs as `python -m load_tests.NAME [--quick] --out FILE`."""
