"""Whether tables of experts' numbers say in a pruned checkpoint what they said in its source."""

from collections.abc import Iterator, Mapping

import numpy as np

from easyep.checkpoint.computed import table_values
from easyep.checkpoint.copying import Range, read
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.layout import Layout
from easyep.errors import CheckpointError


def different_tables(
    pruned: Checkpoint,
    layout: Layout,
    source: Checkpoint,
    source_layout: Layout,
    kept: Mapping[int, tuple[int, ...]],
) -> Iterator[str]:
    """Tables whose kept experts are not where they were, or with rows that name one twice.

    What took the place of dropped experts is not derived again: any kept expert would do, and
    the file's checksum tells whether it is the one that was chosen.
    """
    for index, layer in layout.layers.items():
        theirs = {table.name: table for table in source_layout.layers[index].tables}
        for table in layer.tables:
            try:
                after = table_values(read(pruned, [Range.of(table)]), table, len(kept[index]))
            except CheckpointError as error:
                yield str(error)
                continue
            old = theirs[table.name]
            before = table_values(
                read(source, [Range.of(old)]), old, source_layout.router.num_experts
            )
            if after.shape != before.shape:
                yield f"tensor {table.name!r} has {list(after.shape)}, expected {before.shape}"
                continue
            back = np.asarray(kept[index])[after]
            wrong = (back != before) & np.isin(before, kept[index])
            if wrong.any():
                row = int(np.flatnonzero(wrong.any(axis=1))[0])
                yield f"tensor {table.name!r}: row {row} lost an expert that is kept"
