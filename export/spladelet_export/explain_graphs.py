"""What a bundle needs to say where weights come from: a second graph beside each of its graphs."""

import os
from dataclasses import replace
from pathlib import Path

import onnx

from spladelet.bundle.description import (
    DESCRIPTION,
    EXPLAIN,
    GRAPH,
    QUERY_EXPLAIN,
    QUERY_GRAPH,
    Description,
)
from spladelet.bundle.folder import Bundle
from spladelet.errors import InputError
from spladelet.files import FileEntry, replacing
from spladelet_export.errors import GraphError, door
from spladelet_export.graph.provenance import trace_positions
from spladelet_export.whole_folder import write_errors

_BESIDE = {GRAPH: EXPLAIN, QUERY_GRAPH: QUERY_EXPLAIN}


@door("the bundle stays as it was")
def explain_bundle(bundle: str | os.PathLike[str]) -> Description:
    """Add to a bundle that was made before what `Encoder.sources` needs; vectors stay the same.

    Args:
        bundle: Its folder.

    Returns:
        Its description, in which the new files are listed.

    Raises:
        BundleError: There is no bundle, or it is damaged.
        InputError: It is a .zip.
        GraphError: Its graph does not pool as this version's do.
        ExportError: The folder cannot be written.
    """
    folder = Path(bundle)
    if folder.is_file():
        raise InputError(f"{folder} is no folder. Unpack it first.")
    if (folder / DESCRIPTION).is_file():
        for name in _BESIDE.values():  # made anew, whatever became of it
            (folder / name).unlink(missing_ok=True)
    opened = Bundle.open(folder)
    opened.verify()
    with write_errors(folder):
        description = add_explaining(folder, opened.description)
        with replacing(folder / DESCRIPTION) as file:
            file.write(description.to_json().encode())
    return description


def add_explaining(folder: Path, description: Description) -> Description:
    """Write the second graphs; returns the description that lists them."""
    added = {}
    for name in _BESIDE.keys() & description.files.keys():
        try:
            graph = onnx.load(folder / name, load_external_data=False)
        except Exception as error:  # protobuf's, whichever of its implementations is there
            raise GraphError(f"{folder / name} is no ONNX graph: {error}.") from error
        trace_positions(graph.graph)
        with replacing(folder / _BESIDE[name]) as file:
            file.write(graph.SerializeToString(deterministic=True))
        added[_BESIDE[name]] = FileEntry.of(folder / _BESIDE[name])
    return replace(description, explaining=dict(sorted(added.items())))
