"""Identity of rows and tables by content, independent of how they are stored."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


def row_keys(frame: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """Return one 64-bit hash per row over all columns, in name order; shape (n,).

    Exact: one changed bit changes the hash. Two equal rows have equal hashes, wherever they stand.
    """
    import numpy as np
    import pandas as pd

    ordered = frame[sorted(frame.columns, key=str)]
    return np.asarray(pd.util.hash_pandas_object(ordered, index=False), dtype=np.uint64)


def table_digest(frame: pd.DataFrame) -> str:
    """``sha256:`` over column names, types and the multiset of rows: a table keeps its digest when rows change places."""
    import numpy as np

    total = hashlib.sha256()
    for name in sorted(frame.columns, key=str):
        total.update(f"{name}\0{frame[name].dtype}\n".encode())
    total.update(np.sort(row_keys(frame)).tobytes())
    return "sha256:" + total.hexdigest()
