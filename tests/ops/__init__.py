"""The functions of the namespace in tables, one file a family; :mod:`.table` says what is tested of each."""

import pytest

pytest.register_assert_rewrite("tests.ops.table")
