"""Within `distrust` nothing is imported that was not; outside of it nothing is refused."""

import sys

import pytest

from trimask import UserError
from trimask.trust import check_import, distrust


def test_only_what_is_new_is_refused() -> None:
    check_import("nobody.has.this")
    with distrust("me/model"):
        check_import("sys")
        with pytest.raises(UserError, match=r"me/model needs user code, nobody.has.this, which is not run"):
            check_import("nobody.has.this")
    check_import("nobody.has.this")
    assert "nobody" not in sys.modules


def test_it_ends_with_an_error() -> None:
    with pytest.raises(KeyError), distrust("me/model"):
        raise KeyError
    check_import("nobody.has.this")
