"""Stand-in, ours: transformers' source distribution lacks this module of its tests."""


class ExportTesterMixin:
    """Without tests: tests/model/test_transformers.py exports every head."""
