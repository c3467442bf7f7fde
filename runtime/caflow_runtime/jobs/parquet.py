"""Export of verdicts to a Parquet file, for programs that read tables."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from caflow_runtime.extras import import_optional
from caflow_runtime.file_io.atomic_files import atomic_file
from caflow_runtime.ood.verdict import Probability, Side, Verdict

ROWS_IN_GROUP = 2048


def import_pyarrow() -> Any:
    """Import PyArrow with its submodule `parquet`, and return it.

    Raises:
        InputError: if PyArrow is not installed.
    """
    what = "--parquet requires PyArrow"
    import_optional("pyarrow.parquet", what, "parquet")
    return import_optional("pyarrow", what, "parquet")


def write_parquet(path: Path, verdicts: Iterator[Verdict]) -> None:
    """Write a table with a row for each verdict and a column for each field except `sha256`.

    At most `ROWS_IN_GROUP` rows are in memory at a time. If writing fails, an existing file stays unchanged.

    Raises:
        InputError: if PyArrow is not installed.
        OSError: if a file cannot be read or written.
    """
    pyarrow = import_pyarrow()
    text, number, size = pyarrow.string(), pyarrow.float64(), pyarrow.int32()
    kinds = {
        **dict.fromkeys([float | None, Probability | None], number),
        **dict.fromkeys([list[float] | None, list[Probability] | None], pyarrow.list_(number)),
        Side | None: size,
    }
    fields = {field.name: kinds.get(field.type, text) for field in msgspec.structs.fields(Verdict)}
    del fields["sha256"]
    schema = pyarrow.schema(fields.items())
    with atomic_file(path) as partial, pyarrow.parquet.ParquetWriter(partial, schema) as writer:
        while rows := list(islice(verdicts, ROWS_IN_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist([msgspec.structs.asdict(row) for row in rows], schema))
